import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { redisModules, type RedisServer } from '../../toolchain/redis.js';
import { serverRoot } from '../../toolchain/server-root.js';
import { serverSources } from '../../vm/image/source-package.js';
import { hostArchitecture } from '../../vm/image/tools.js';
import type { Work } from '../../vm/image/work.js';
import { projectRoot } from '../../vm/paths.js';
import { runGroup } from './group.js';

/**
 * How connections are served; on a host without the kernel module, by libfastio's user-space back end. Tests start up to
 * twenty servers at a time: so workers do not poll for long.
 */
export const variants = {
  stock: undefined,
  workers: 'backend user workers 2 idle-us 50',
  inline: 'backend user workers 0',
  absent: 'backend kernel workers 2',
  hybrid: 'backend user workers 1 hybrid 4 idle-us 50',
} as const;
export type Variant = keyof typeof variants;
export const variantNames = Object.keys(variants) as readonly Variant[];

export interface TclRun {
  readonly server: RedisServer;
  readonly variant: Variant;
  /** `unit/protocol`, as runtest names them. */
  readonly files: readonly string[];
  /** Names of tests to leave out. */
  readonly skip?: readonly string[];
  /** Files in parallel. */
  readonly clients: number;
  /** Which of the ranges of ports to use, 0 to 3: runs side by side must not meet. Default: 0. */
  readonly lane?: number;
  readonly flavour?: 'release' | 'asan';
}

export interface TclResult {
  readonly status: number;
  /** Names of tests, sorted; one that several files have stands there as often. */
  readonly passed: readonly string[];
  /** Names with their files, and exceptions that ended a file early. */
  readonly failed: readonly string[];
  /** What the servers said at their end, added up. */
  readonly used: Usage;
  readonly output: string;
}

/** From the line that the module writes when its server exits in order. */
export interface Usage {
  readonly servers: number;
  readonly accepted: number;
  readonly attached: number;
  readonly detached: number;
  readonly plain: number;
  readonly turnedAway: number;
}

const colours = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

/** Ports of each lane: the cluster bus takes a server's port + 10,000. */
const ports = { first: 21_111, lane: 2_000 };

/** Runs files of a server's own test suite against Debian's unmodified binary, with the module or without. */
export async function runTcl(spec: TclRun, work: Work): Promise<TclResult> {
  const modules = await redisModules(projectRoot, hostArchitecture(), work, spec.flavour);
  const module = modules.find(({ to }) => to.endsWith(`fastio-${spec.server}.so`))?.from ?? '';
  const root = await serverRoot(work);
  const directory = await mkdtemp(join(tmpdir(), 'fastio-tcl-'));
  try {
    await prepare(join(await serverSources(work), spec.server), directory, spec.server);
    const load = variants[spec.variant];
    const loading =
      load === undefined ? [] : ['--config', 'loadmodule', `/modules/fastio-${spec.server}.so ${load}`];
    const argv = [
      ...['./runtest', '--clients', String(spec.clients), '--dont-clean', '--no-latency', '--durable'],
      ...['--baseport', String(ports.first + (spec.lane ?? 0) * ports.lane), '--portcount', '1900'],
      ...loading,
      ...spec.files.flatMap((file) => ['--single', file]),
      ...(spec.skip ?? []).flatMap((name) => ['--skiptest', name]),
    ];
    const sandbox = {
      binds: [
        { host: directory, inside: '/data', writable: true },
        { host: dirname(module), inside: '/modules', writable: false },
      ],
      cwd: '/data',
      env: { HOME: '/tmp', LC_ALL: 'C.UTF-8' },
    };
    const command = await root.command(sandbox, argv);
    const { status, stdout, stderr } = await runGroup(command, work.signal);
    const output = `${stdout}${stderr}`.replaceAll(colours, '');
    const found = results(output, status);
    if (status !== 0 && found.failed.length === 0) {
      const end = output.trimEnd().split('\n').slice(-10).join('\n');
      throw new Error(
        `${spec.server} ${spec.files.join(' ')}: runtest could not run, status ${status}:\n${end}`,
      );
    }
    return { status, ...found, used: await usage(join(directory, 'tests/tmp')), output };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What the tests need of the sources, to write in, with Debian's programs where the build would have put its own. */
async function prepare(sources: string, directory: string, server: RedisServer): Promise<void> {
  const unused = ['deps', 'src'].map((name) => join(sources, name));
  await cp(sources, directory, { recursive: true, filter: (path) => !unused.includes(path) });
  await mkdir(join(directory, 'src'));
  for (const program of ['server', 'cli', 'benchmark', 'check-rdb', 'check-aof', 'sentinel']) {
    await symlink(`/usr/bin/${server}-${program}`, join(directory, 'src', `${server}-${program}`));
  }
}

/** A file may also assert outside its tests. */
const wholeFile = '(the file, to its end and without an error)';

/** What integration/psync2 draws at random and has in the names of its tests: no two runs would have these in common. */
const withoutDrawn = (name: string): string =>
  name.startsWith('PSYNC2: ') ? name.replaceAll(/#\d+/g, '#n').replace(/\(x = \d+\)/, '(x = n)') : name;

/** Tests of integration/psync2-reg, which runs each as often as it happens to in twenty seconds: they count once. */
const often = 'PSYNC2 #3899 regression: kill ';

/** The tests that passed and failed, from what runtest prints; `status` 0 says that the file ended in order. */
export function results(output: string, status: number): Pick<TclResult, 'passed' | 'failed'> {
  const names = [...output.matchAll(/^\[ok\]: (.*) \(\d+ ms\)$/gm)].map(([, name]) =>
    withoutDrawn(name ?? ''),
  );
  const passed = names.filter((name, index) => !name.startsWith(often) || names.indexOf(name) === index);
  const failed = [...output.matchAll(/^\[(?:err|exception|timeout)\]: (.*)$/gm)].map(
    ([, text]) => text ?? '',
  );
  return { passed: [...passed.sort(), ...(status === 0 ? [wholeFile] : [])], failed };
}

async function usage(directory: string): Promise<Usage> {
  const total = { servers: 0, accepted: 0, attached: 0, detached: 0, plain: 0, turnedAway: 0 };
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    if (entry.name !== 'stdout' || !entry.isFile()) continue;
    const log = await readFile(join(entry.parentPath, entry.name), 'utf8');
    for (const [, accepted, attached, detached, plain, turnedAway] of log.matchAll(
      /FastIO: (\d+) accepted, (\d+) on rings, (\d+) detached, (\d+) plain, (\d+) turned away$/gm,
    )) {
      total.servers += 1;
      total.accepted += Number(accepted);
      total.attached += Number(attached);
      total.detached += Number(detached);
      total.plain += Number(plain);
      total.turnedAway += Number(turnedAway);
    }
  }
  return total;
}

/** Tests that the stock server passed and this one did not, as often as that happened. */
export function missing(stock: readonly string[], passed: readonly string[]): readonly string[] {
  const left = new Map<string, number>();
  for (const name of passed) left.set(name, (left.get(name) ?? 0) + 1);
  return stock.filter((name) => {
    const count = left.get(name) ?? 0;
    left.set(name, count - 1);
    return count <= 0;
  });
}

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    servers: a.servers + b.servers,
    accepted: a.accepted + b.accepted,
    attached: a.attached + b.attached,
    detached: a.detached + b.detached,
    plain: a.plain + b.plain,
    turnedAway: a.turnedAway + b.turnedAway,
  };
}

/** What is wrong with where connections went, or nothing when they went where the variant says. */
export function unproven(variant: Variant, used: Usage): string | undefined {
  if (variant === 'stock')
    return used.servers === 0 ? undefined : 'a module was loaded into the stock server';
  if (variant === 'absent') {
    if (used.attached > 0) return `${used.attached} connections went on rings without a device`;
    return used.plain > 0 ? undefined : 'no connection was served';
  }
  if (used.plain > 0) return `${used.plain} connections were served through plain sockets`;
  const astray = used.accepted - used.attached - used.turnedAway;
  if (astray !== 0) return `${astray} of ${used.accepted} connections went neither on rings nor away`;
  return used.attached > 0 ? undefined : 'no connection went on rings';
}
