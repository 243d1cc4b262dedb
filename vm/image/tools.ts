import { existsSync, realpathSync } from 'node:fs';
import { rm, symlink } from 'node:fs/promises';
import { arch as hostArch, platform } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { FastioError } from '../errors.js';
import type { Arch } from '../vm.js';
import { cachePath, exists, makeOnce } from './cache.js';
import { requireDisk } from './disk.js';
import { fetchPackages } from './fetch.js';
import { lockBytes, readLock, type Lock } from './lock.js';
import type { MirrorOptions } from './mirrors.js';
import { unpackDebs } from './unpack.js';
import type { Work } from './work.js';

/** `run`: QEMU and what assembles images. `build`: compilers for both architectures. */
export type RootKind = 'run' | 'build';

/** Unpacked size over .deb size; measured 4.0 (build) and 4.7 (run). */
const unpackedRatio = 5;

/** This machine's architecture. @throws FastioError HOST_UNSUPPORTED when no tools root exists for it. */
export function hostArchitecture(): Arch {
  const arch = hostArch();
  const isLinux = platform() === 'linux';
  if (isLinux && arch === 'x64') return 'x86_64';
  if (isLinux && arch === 'arm64') return 'arm64';
  throw new FastioError(
    'HOST_UNSUPPORTED',
    `no tools for ${arch} hosts with ${platform()}`,
    'Use Linux on an x86_64 or arm64 processor, or --backend docker.',
  );
}

/** Directory of the unpacked tools root of this host's architecture; fetched and unpacked when the cache has none. */
export async function toolsRoot(kind: RootKind, work: Work & MirrorOptions): Promise<string> {
  return await unpackedRoot(await readLock(`${kind}-${hostArchitecture()}`), work);
}

/** Where the tools root is, or undefined while the cache has none. Fetches nothing. */
export async function findToolsRoot(kind: RootKind): Promise<string | undefined> {
  const lock = await readLock(`${kind}-${hostArchitecture()}`);
  const root = join(await cachePath('roots'), rootName(lock));
  return (await exists(root)) ? root : undefined;
}

/** The packages of a lock as a directory: `<cache>/roots/<id>-<hash>`. */
export async function unpackedRoot(lock: Lock, work: Work & MirrorOptions): Promise<string> {
  const roots = await cachePath('roots');
  const root = join(roots, rootName(lock));
  await makeOnce(root, work.signal, async (temp) => {
    const debOf = await fetchPackages(lock, work);
    await requireDisk(roots, lockBytes(lock) * unpackedRatio, `unpacking ${lock.id}`);
    work.report({ kind: 'stage', name: 'unpack', detail: lock.id });
    await unpackDebs(lock.packages.map(debOf), temp, work.signal);
    await linkAlternatives(temp);
  });
  return root;
}

function rootName(lock: Lock): string {
  return `${lock.id}-${lock.hash.slice(0, 16)}`;
}

/** Names that packages' scripts would have set up with update-alternatives, where the target exists. */
export const alternatives: readonly (readonly [link: string, target: string])[] = [
  ['usr/bin/awk', 'mawk'],
  ['usr/bin/cc', 'gcc'],
  ['usr/bin/c++', 'g++'],
  ['usr/bin/which', 'which.debianutils'],
];

async function linkAlternatives(root: string): Promise<void> {
  for (const [link, target] of alternatives) {
    const path = join(root, link);
    if (!existsSync(join(root, 'usr/bin', target))) continue;
    await rm(path, { force: true });
    await symlink(target, path);
  }
}

/**
 * argv that runs a program of a tools root through that root's own dynamic loader: no chroot, no namespace.
 * Programs that start others, or look for files at absolute paths, need to be told where.
 * @param program a name looked up in the root's usr/bin and usr/sbin, or a path inside the root.
 * @throws FastioError TOOL_MISSING when the root has no such program.
 */
export function toolCommand(root: string, program: string, args: readonly string[]): readonly string[] {
  return [...loaderCommand(root), programPath(root, program), ...args];
}

/** The loader's part of `toolCommand`, for programs that take a wrapper (`gcc -wrapper`). */
export function loaderCommand(root: string, arch: Arch = hostArchitecture()): readonly string[] {
  const triplet = arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const loader = arch === 'arm64' ? 'usr/lib/ld-linux-aarch64.so.1' : 'usr/lib64/ld-linux-x86-64.so.2';
  const libraries = [`usr/lib/${triplet}`, 'usr/lib'].map((path) => join(root, path));
  return [realpathSync(join(root, loader)), '--library-path', libraries.join(':')];
}

function programPath(root: string, program: string): string {
  const candidates = program.includes('/')
    ? [isAbsolute(program) && program.startsWith(root) ? program : join(root, program)]
    : ['usr/bin', 'usr/sbin', 'usr/libexec'].map((directory) => join(root, directory, program));
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new FastioError(
    'TOOL_MISSING',
    `no program ${program} in ${root}`,
    'Remove that directory (`fastio clean`); it will be made anew.',
  );
}
