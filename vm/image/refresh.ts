import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError } from '../errors.js';
import { run } from '../exec.js';
import { cachePath, tempBeside } from './cache.js';
import {
  debianArch,
  formatLock,
  lockFile,
  lockIds,
  parseLock,
  readLock,
  type Lock,
  type LockedPackage,
} from './lock.js';
import { mirrorList } from './mirrors.js';
import { wantedPackages, type Wanted } from './packages.js';
import { sourceFiles } from './refresh-sources.js';
import type { Work } from './work.js';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The archive imports a change within hours; a day after the newest Release file it surely holds it. */
const snapshotDelayMs = 24 * 3600 * 1000;

export interface RefreshOptions extends Work {
  /** Base address of a mirror; default: the first of the usual order. */
  readonly mirror?: string;
  /** Where the lock is written; default: its place in the project. */
  readonly file?: string;
}

/**
 * Makes a lock file anew from what the suites hold today. The same archive gives the same text. Needs apt and
 * Debian's keyring on the host, but neither root nor a Debian host's own package state.
 */
export async function refreshLock(id: string, options: RefreshOptions): Promise<Lock> {
  const wanted = await wantedPackages(id);
  const mirror = options.mirror ?? mirrorList('').at(0) ?? '';
  options.report({ kind: 'stage', name: 'lock', detail: id });
  const apt = await prepareApt(wanted, mirror, options.signal);
  if (wanted.isSource === true)
    return await writeLock(wanted, await sourceFiles(apt.run, wanted), apt, options);
  const index = await readIndices(apt);
  const below = wanted.onTopOf === undefined ? [] : await resolve(apt, index, wanted.onTopOf.packages);
  const kernels = wanted.kernels.map((kernel) => ({
    ...kernel,
    ...kernelPackages(index, kernel.suite, wanted),
  }));
  const all = await resolve(apt, index, [
    ...wanted.packages,
    ...kernels.map(({ kbuild }) => kbuild.entry.name),
  ]);
  // Image and headers depend on what makes an initramfs and on udev; ours is made otherwise.
  const alone = kernels.flatMap(({ parts, image, headers, common }) =>
    parts === 'kbuild' ? [] : [image, headers, common],
  );
  const packages = [...subtract(all, below, wanted), ...alone];
  return await writeLock(wanted, packages, apt, options);
}

async function writeLock(
  { id, suites }: Wanted,
  packages: readonly Pick<Indexed, 'entry' | 'suite'>[],
  apt: Apt,
  options: RefreshOptions,
): Promise<Lock> {
  const text = formatLock({
    id,
    suites: suites.filter((suite) => packages.some((item) => item.suite === suite)),
    snapshot: await snapshotTime(apt),
    packages: packages.map(({ entry }) => entry),
  });
  const file = options.file ?? lockFile(id);
  // Parsed before it replaces the old one: what we write is what we would accept.
  const lock = parseLock(text, { file, id });
  const temp = tempBeside(file);
  try {
    await writeFile(temp, text);
    options.signal.throwIfAborted();
    await rename(temp, file);
  } finally {
    await rm(temp, { force: true });
  }
  return lock;
}

/** How one lock file changed. */
export interface Refreshed {
  readonly id: string;
  readonly packages: number;
  /** Packages that came, went, or have another version or hash. */
  readonly changes: number;
}

/** Makes several lock files anew, one after the other. @param ids none means all. */
export async function refreshLocks(
  ids: readonly string[],
  options: { readonly mirror?: string },
  work: Work,
): Promise<readonly Refreshed[]> {
  const results: Refreshed[] = [];
  // Every id is checked before the first file changes.
  await Promise.all(ids.map(wantedPackages));
  for (const id of ids.length === 0 ? lockIds : ids) {
    const before = await readLock(id).catch(() => undefined);
    const lock = await refreshLock(id, { ...work, ...options });
    const known = new Set(before?.packages.map(({ sha256 }) => sha256));
    const added = lock.packages.filter(({ sha256 }) => !known.has(sha256)).length;
    const goneOrAdded = (before?.packages.length ?? 0) - (lock.packages.length - added) + added;
    results.push({ id, packages: lock.packages.length, changes: before === undefined ? added : goneOrAdded });
  }
  return results;
}

interface Apt {
  readonly directory: string;
  readonly mirror: string;
  readonly run: (argv: readonly string[]) => Promise<string>;
}

interface Indexed {
  readonly entry: LockedPackage;
  readonly depends: string;
  readonly suite: string;
}

/** An apt with a state of its own, no package installed, and the suites' indices up to date. */
async function prepareApt(wanted: Wanted, mirror: string, signal: AbortSignal): Promise<Apt> {
  const directory = await cachePath('apt', wanted.architectures.join('+'));
  await Promise.all(
    [
      'state/lists/partial',
      'cache/archives/partial',
      'etc/preferences.d',
      'etc/apt.conf.d',
      'etc/trusted.gpg.d',
    ].map((part) => cachePath('apt', wanted.architectures.join('+'), part)),
  );
  const write = (name: string, lines: readonly string[]): Promise<void> =>
    writeFile(join(directory, name), lines.map((line) => `${line}\n`).join(''));
  await write('status', []);
  await write(
    'sources.list',
    wanted.suites.map(
      (suite) =>
        `${wanted.isSource === true ? 'deb-src' : 'deb'} [signed-by=${keyring}] ${mirror} ${suite} main`,
    ),
  );
  await write(
    'etc/preferences',
    // Nothing but kernels may come from another suite than the first, not even where a name exists only there.
    wanted.suites
      .slice(1)
      .flatMap((suite) => [
        ...['Package: *', `Pin: release n=${suite}`, 'Pin-Priority: -1', ''],
        ...['Package: linux-*', `Pin: release n=${suite}`, 'Pin-Priority: 100', ''],
      ]),
  );
  await write('apt.conf', [
    `Dir "${directory}";`,
    'Dir::State "state";',
    `Dir::State::status "${directory}/status";`,
    'Dir::Cache "cache";',
    'Dir::Etc "etc";',
    `Dir::Etc::sourcelist "${directory}/sources.list";`,
    'Dir::Etc::sourceparts "/dev/null";',
    `APT::Architecture "${wanted.architectures[0] ?? ''}";`,
    `APT::Architectures { ${wanted.architectures.map((arch) => `"${arch}";`).join(' ')} };`,
    'APT::Install-Recommends "false";',
    'APT::Sandbox::User "";',
    'Acquire::Languages "none";',
    'Acquire::GzipIndexes "false";',
  ]);
  const env = { ...process.env, APT_CONFIG: join(directory, 'apt.conf'), LC_ALL: 'C' };
  const runApt = async (argv: readonly string[]): Promise<string> => {
    const result = await run(argv, { signal, env });
    if (result.status === 0) return result.stdout;
    throw new FastioError(
      'PACKAGE_UNAVAILABLE',
      `${argv.slice(0, 3).join(' ')} failed`,
      'Read what apt says below.',
      {
        detail: `${result.stdout}\n${result.stderr}`.trimEnd().split('\n').slice(-20),
      },
    );
  };
  await runApt(['apt-get', 'update', '--error-on=any']);
  return { directory, mirror, run: runApt };
}

/** Everything the suites hold, by pool path. */
async function readIndices(apt: Apt): Promise<ReadonlyMap<string, Indexed>> {
  const targets = await apt.run([
    'apt-get',
    'indextargets',
    '--format',
    '$(FILENAME) $(RELEASE)',
    'Created-By: Packages',
  ]);
  const index = new Map<string, Indexed>();
  for (const target of targets.trim().split('\n')) {
    const [file = '', suite = ''] = target.split(' ');
    for (const stanza of (await readFile(file, 'utf8')).split('\n\n')) {
      const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
      if (!stanza.startsWith('Package: ')) continue;
      index.set(field('Filename'), {
        entry: {
          name: field('Package'),
          arch: field('Architecture'),
          version: field('Version'),
          sha256: field('SHA256'),
          sizeBytes: Number(field('Size')),
          poolPath: field('Filename'),
        },
        depends: field('Depends'),
        suite,
      });
    }
  }
  return index;
}

/** What apt would download to install `packages` on an empty system. */
async function resolve(
  apt: Apt,
  index: ReadonlyMap<string, Indexed>,
  packages: readonly string[],
): Promise<readonly Indexed[]> {
  const uris = await apt.run(['apt-get', 'install', '--yes', '--print-uris', '--quiet=2', ...packages]);
  const prefix = `${apt.mirror}/`;
  return uris
    .trim()
    .split('\n')
    .map((line) => {
      const uri = /^'([^']+)'/.exec(line)?.[1] ?? line;
      // Addresses are percent-encoded (+ ~ :), the indices are not.
      const found = uri.startsWith(prefix)
        ? index.get(decodeURIComponent(uri.slice(prefix.length)))
        : undefined;
      if (found !== undefined) return found;
      throw new FastioError(
        'PACKAGE_UNAVAILABLE',
        `${uri} is in no index of ${apt.mirror}`,
        'Try another mirror.',
      );
    });
}

/** `all` without `below`, which must be part of it: a layer cannot replace what the one beneath it depends on. */
function subtract(all: readonly Indexed[], below: readonly Indexed[], wanted: Wanted): readonly Indexed[] {
  const missing = below.find((entry) => !all.includes(entry));
  if (missing !== undefined) {
    throw new FastioError(
      'INPUT_INVALID',
      `${wanted.id} would replace ${missing.entry.name} of ${wanted.onTopOf?.id ?? ''}`,
      'Change packages.yaml so that the kernel only adds packages.',
    );
  }
  return all.filter((entry) => !below.includes(entry));
}

/** A suite's current cloud kernel: what its meta packages lead to. */
function kernelPackages(
  index: ReadonlyMap<string, Indexed>,
  suite: string,
  wanted: Wanted,
): Record<'image' | 'headers' | 'common' | 'kbuild', Indexed> {
  const arch = debianArch(wanted.arch);
  const find = (name: string): Indexed => {
    const candidates = [...index.values()].filter(
      ({ entry, suite: from }) => entry.name === name && from === suite && [arch, 'all'].includes(entry.arch),
    );
    // Older versions stay in the index for a while; the pool path tells them apart, the order does not.
    const [found] = candidates.sort((a, b) => (a.entry.version < b.entry.version ? 1 : -1));
    if (found !== undefined) return found;
    throw new FastioError('PACKAGE_UNAVAILABLE', `${suite} has no package "${name}"`, 'Try another mirror.');
  };
  const follow = (from: Indexed, prefix: string): Indexed =>
    find(new RegExp(`${prefix}[^ ,]+`).exec(from.depends)?.[0] ?? `${prefix}*`);
  const headers = follow(find(`linux-headers-cloud-${arch}`), 'linux-headers-');
  return {
    image: follow(find(`linux-image-cloud-${arch}`), 'linux-image-'),
    headers,
    common: find(/linux-headers-[^ ,]+-common/.exec(headers.depends)?.[0] ?? 'linux-headers-*-common'),
    kbuild: follow(headers, 'linux-kbuild-'),
  };
}

async function snapshotTime(apt: Apt): Promise<string> {
  const lists = join(apt.directory, 'state/lists');
  const releases = (await readdir(lists)).filter((name) => name.endsWith('Release'));
  const dates = await Promise.all(
    releases.map(async (name) => {
      const date = /^Date: (.*)$/m.exec(await readFile(join(lists, name), 'utf8'))?.[1];
      return Date.parse(date ?? '');
    }),
  );
  const newest = new Date(Math.max(...dates) + snapshotDelayMs);
  return newest.toISOString().replace(/[-:]|\.\d+/g, '');
}
