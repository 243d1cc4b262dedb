import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FastioError } from '../vm/errors.js';
import { run } from '../vm/exec.js';
import { tempBeside } from '../vm/image/cache.js';
import { toolCommand } from '../vm/image/tools.js';

/**
 * How a program gets to see the compilers' root as `/`. Compilers call each other by absolute path, so unlike QEMU
 * they cannot simply be started through the root's own loader.
 */
export const wayNames = ['userns', 'chroot', 'sudo', 'copy'] as const;
export type WayName = (typeof wayNames)[number];

export interface Way {
  readonly name: WayName;
  /** What has to stand before a mount-and-chroot script for it to be allowed to run. */
  readonly prefix: readonly string[];
}

export interface TriedWay {
  readonly name: WayName;
  readonly works: boolean;
  /** One clause for people: why it was taken, or why not. */
  readonly reason: string;
}

export interface Roots {
  /** Holds unshare and mount, run through their own loader. */
  readonly run: string;
  /** Holds the compilers. */
  readonly build: string;
}

export interface Bind {
  readonly host: string;
  readonly inside: string;
  readonly writable: boolean;
}

export interface Sandbox {
  readonly binds: readonly Bind[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Tries every way by running `true` inside the root; the first that works is the one to use. */
export async function tryWays(roots: Roots, signal?: AbortSignal): Promise<readonly TriedWay[]> {
  const tried: TriedWay[] = [];
  for (const name of wayNames) {
    tried.push(await tryWay(name, roots, signal));
  }
  return tried;
}

/**
 * The first way that works, in the order user namespace, chroot as root, sudo without a password, chroot into a copy.
 * @throws FastioError BUILD_WAY_MISSING with each way's reason.
 */
export async function chooseWay(roots: Roots, signal?: AbortSignal): Promise<Way> {
  const refused: string[] = [];
  for (const name of wayNames) {
    const tried = await tryWay(name, roots, signal);
    if (tried.works) return { name, prefix: prefixOf(name, roots) };
    refused.push(`${name}: ${tried.reason}`);
  }
  throw new FastioError(
    'BUILD_WAY_MISSING',
    'this host lets nobody enter the compilers’ root',
    'Build inside the guest instead: add `--build in-guest`.',
    { detail: refused },
  );
}

async function tryWay(name: WayName, roots: Roots, signal?: AbortSignal): Promise<TriedWay> {
  const root = process.getuid?.() === 0;
  if ((name === 'chroot' || name === 'copy') && !root)
    return { name, works: false, reason: 'not running as root' };
  if (name === 'sudo' && root) return { name, works: false, reason: 'already root' };
  const argv = enter({ name, prefix: prefixOf(name, roots) }, roots, { binds: [], cwd: '/', env: {} }, [
    'true',
  ]);
  try {
    await prepareRoot(roots.build, []);
    const result = await run(argv, signal === undefined ? {} : { signal });
    if (result.status === 0) return { name, works: true, reason: reasonItWorks[name] };
    return { name, works: false, reason: lastLine(result.stderr) };
  } catch (error) {
    signal?.throwIfAborted();
    return { name, works: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

const reasonItWorks: Readonly<Record<WayName, string>> = {
  userns: 'user namespaces are allowed: no root needed',
  chroot: 'running as root',
  sudo: 'sudo asks for no password',
  copy: 'running as root that may chroot but not mount',
};

function prefixOf(name: WayName, roots: Roots): readonly string[] {
  const unshare = (...flags: string[]): readonly string[] => toolCommand(roots.run, 'unshare', flags);
  switch (name) {
    case 'userns':
      return unshare('--user', '--map-root-user', '--mount', '--propagation', 'private', '--');
    case 'chroot':
      return unshare('--mount', '--propagation', 'private', '--');
    case 'sudo':
      return ['sudo', '-n', ...unshare('--mount', '--propagation', 'private', '--')];
    case 'copy':
      return [];
  }
}

/**
 * The command line that runs `argv` with the compilers' root as a read-only `/`, the sandbox's binds on top of it and
 * a /tmp of its own. The mounts live in a private namespace and vanish with the program.
 */
export function enter(way: Way, roots: Roots, sandbox: Sandbox, argv: readonly string[]): readonly string[] {
  if (way.name === 'copy') return enterCopy(roots, sandbox, argv);
  const mount = (...args: string[]): string => toolCommand(roots.run, 'mount', args).map(quote).join(' ');
  const at = (inside: string): string => join(roots.build, inside);
  const script = [
    'set -e',
    mount('--rbind', roots.build, roots.build),
    mount('--rbind', '/dev', at('dev')),
    mount('--rbind', '/proc', at('proc')),
    mount('-t', 'tmpfs', 'tmpfs', at('tmp')),
    ...sandbox.binds.map(({ host, inside }) => mount('--bind', host, at(inside))),
    ...sandbox.binds
      .filter(({ writable }) => !writable)
      .map(({ inside }) => mount('-o', 'remount,bind,ro', at(inside))),
    mount('-o', 'remount,bind,ro', roots.build),
    `exec ${chrootCommand(roots, roots.build, [], sandbox, argv)}`,
  ].join('\n');
  return [...way.prefix, 'sh', '-c', script];
}

/** Nobody, to whom a copied root is as read-only as a mounted one. */
const buildUser = '65534:65534';

/**
 * As `enter`, for the root of a container that may chroot but not mount: a copy of the compilers' root, made of hard
 * links, gets copies of what would be bound. What is writable comes back afterwards.
 */
function enterCopy(roots: Roots, sandbox: Sandbox, argv: readonly string[]): readonly string[] {
  const copy = tempBeside(join(dirname(dirname(roots.build)), 'work', 'root'));
  const at = (inside: string): string => quote(join(copy, inside));
  const devices = ['null 3', 'zero 5', 'full 7', 'random 8', 'urandom 9'].map((device) => {
    const [name = '', minor = ''] = device.split(' ');
    return `mknod -m 666 ${at(`dev/${name}`)} c 1 ${minor}`;
  });
  const script = [
    'set -e',
    `mkdir -p ${quote(dirname(copy))}`,
    `trap ${quote(`rm -rf ${quote(copy)}`)} EXIT`,
    "trap 'exit 143' INT TERM HUP",
    `cp -a --link ${quote(roots.build)} ${quote(copy)}`,
    `mkdir -p ${at('dev')} ${at('tmp')} ${at('proc')}`,
    `chmod 1777 ${at('tmp')}`,
    ...devices,
    ...sandbox.binds.flatMap(({ host, inside, writable }) => [
      `mkdir -p ${at(inside)}`,
      `cp -a ${quote(`${host}/.`)} ${at(inside)}`,
      ...(writable ? [`chown -R ${buildUser} ${at(inside)}`] : []),
    ]),
    'status=0',
    `${chrootCommand(roots, copy, [`--userspec=${buildUser}`], sandbox, argv)} || status=$?`,
    ...sandbox.binds
      .filter(({ writable }) => writable)
      .map(
        ({ host, inside }) =>
          `cp -a --no-preserve=ownership ${quote(`${join(copy, inside)}/.`)} ${quote(host)}`,
      ),
    'exit "$status"',
  ].join('\n');
  return ['sh', '-c', script];
}

function chrootCommand(
  roots: Roots,
  root: string,
  flags: readonly string[],
  { cwd, env }: Sandbox,
  argv: readonly string[],
): string {
  return [
    ...toolCommand(roots.build, 'chroot', [...flags, root, '/usr/bin/env', '-i', '-C', cwd]),
    ...Object.entries({ ...baseEnv, ...env }).map(([key, value]) => `${key}=${value}`),
    ...argv,
  ]
    .map(quote)
    .join(' ');
}

/** Nothing of the host's environment reaches a build: the same sources must give the same bytes everywhere. */
const baseEnv: Readonly<Record<string, string>> = {
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/tmp',
  LC_ALL: 'C',
  TZ: 'UTC',
  SOURCE_DATE_EPOCH: '1767225600',
  KBUILD_BUILD_TIMESTAMP: '2026-01-01',
  KBUILD_BUILD_USER: 'fastio',
  KBUILD_BUILD_HOST: 'fastio',
};

/** Makes the mount points a sandbox needs; the root is read-only once entered. */
export async function prepareRoot(buildRoot: string, binds: readonly Bind[]): Promise<void> {
  const points = ['dev', 'proc', 'tmp', ...binds.map(({ inside }) => inside)];
  await Promise.all(points.map((point) => mkdir(join(buildRoot, point), { recursive: true })));
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? 'no reason given';
}
