import { createReadStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { FastioError } from '../errors.js';
import { run } from '../exec.js';
import { cachePath, makeOnce } from './cache.js';
import { fetchPackages } from './fetch.js';
import { readLock, type LockedPackage } from './lock.js';
import type { MirrorOptions } from './mirrors.js';
import { pipeThrough } from './pipe.js';
import { toolCommand, toolsRoot } from './tools.js';
import type { Work } from './work.js';

/**
 * Directory with a subdirectory for each source package of sources.lock (`redis`, `valkey`): the upstream archive with
 * Debian's patches applied, which is what Debian's binaries are built from.
 */
export async function serverSources(work: Work & MirrorOptions): Promise<string> {
  const lock = await readLock('sources');
  const directory = join(await cachePath('sources'), lock.hash.slice(0, 16));
  await makeOnce(directory, work.signal, async (temp) => {
    const fileOf = await fetchPackages(lock, work);
    const part = (name: string): LockedPackage | undefined =>
      lock.packages.find((entry) => entry.name === name);
    for (const { name } of lock.packages) {
      const [, source] = /^(.+)\.orig$/.exec(name) ?? [];
      const orig = part(name);
      const debian = part(`${source ?? ''}.debian`);
      if (source === undefined || orig === undefined || debian === undefined) continue;
      work.report({ kind: 'stage', name: 'unpack', detail: `sources of ${source}` });
      const target = join(temp, source);
      await mkdir(target);
      // The upstream archive has everything in one directory, Debian's changes are in `debian`.
      await unpack(fileOf(orig), orig, target, ['--strip-components=1'], work.signal);
      await unpack(fileOf(debian), debian, target, [], work.signal);
      await applyPatches(target, source, work);
    }
  });
  return directory;
}

async function unpack(
  file: string,
  { poolPath }: LockedPackage,
  directory: string,
  flags: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const tar = pipeThrough(
    ['tar', '--extract', '--file=-', `--directory=${directory}`, '--no-same-owner', ...flags],
    { signal },
  );
  // tar that has read all it wants closes its input before the last padding: how it ended decides.
  const feed = (source: NodeJS.ReadableStream): Promise<void> =>
    pipeline(source, tar.stdin).catch(() => undefined);
  if (poolPath.endsWith('.gz')) {
    await feed(createReadStream(file).pipe(createGunzip()));
  } else {
    const xz = pipeThrough(['xz', '-dc', '-T1'], { signal });
    pipeline(createReadStream(file), xz.stdin).catch(() => undefined);
    await feed(xz.stdout);
  }
  await tar.ended;
}

/** The patches of debian/patches/series, in its order. */
async function applyPatches(directory: string, source: string, work: Work & MirrorOptions): Promise<void> {
  const series = await readFile(join(directory, 'debian/patches/series'), 'utf8');
  const root = await toolsRoot('run', work);
  for (const line of series.split('\n')) {
    const [name = ''] = line.trim().split(/\s+/);
    if (name === '' || name.startsWith('#')) continue;
    const argv = toolCommand(root, 'busybox', ['patch', '-p1', '-i', join('debian/patches', name)]);
    const result = await run(argv, { cwd: directory, signal: work.signal });
    if (result.status === 0) continue;
    throw new FastioError(
      'PACKAGE_CORRUPT',
      `${source}: Debian’s patch ${name} does not apply`,
      'Make the lock anew: fastio image lock sources.',
      { detail: result.stdout.trimEnd().split('\n').slice(-20) },
    );
  }
}
