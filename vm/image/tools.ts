import type { Work } from './work.js';

/** `run`: QEMU and what assembles images. `build`: compilers for both architectures. */
export type RootKind = 'run' | 'build';

/** Directory of the unpacked tools root of this host's architecture; fetched and unpacked when the cache has none. */
export function toolsRoot(kind: RootKind, work: Work): Promise<string> {
  return Promise.reject(new Error(`not built yet: ${kind} ${work.signal.aborted}`));
}

/**
 * argv that runs a program of a tools root through that root's own dynamic loader: no chroot, no namespace.
 * @param program a name looked up in the root's usr/bin and usr/sbin, or a path inside the root.
 */
export function toolCommand(root: string, program: string, args: readonly string[]): readonly string[] {
  return [root, program, ...args];
}
