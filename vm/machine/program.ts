import { join } from 'node:path';
import { FastioError } from '../errors.js';
import { run } from '../exec.js';
import { hostArchitecture, loaderCommand, toolCommand, toolsRoot } from '../image/tools.js';
import { readLock } from '../image/lock.js';
import type { Work } from '../image/work.js';
import type { Arch, VmSpec } from '../vm.js';

/** A QEMU that can be run, without the arguments that make a machine. */
export interface QemuProgram {
  /** The command's beginning: what ends QEMU with its parent, then QEMU and where its files are. */
  readonly command: readonly string[];
  readonly version: string;
  /** Names the build: equal ids are equal bytes. Undefined for the host's own, which may change at any time. */
  readonly id: string | undefined;
}

/** @throws FastioError TOOL_MISSING when there is no such QEMU. */
export async function qemuProgram(which: VmSpec['qemu'], arch: Arch, work: Work): Promise<QemuProgram> {
  const name = arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
  return which === 'locked' ? await lockedQemu(name, work) : await hostQemu(name, work.signal);
}

async function lockedQemu(name: string, work: Work): Promise<QemuProgram> {
  const lock = await readLock(`run-${hostArchitecture()}`);
  const root = await toolsRoot('run', work);
  const packageName = name === 'qemu-system-aarch64' ? 'qemu-system-arm' : 'qemu-system-x86';
  const version = lock.packages.find((each) => each.name === packageName)?.version ?? 'unknown';
  const firmware = ['usr/share/qemu', 'usr/share/seabios'].flatMap((path) => ['-L', join(root, path)]);
  return {
    command: [
      ...toolCommand(root, 'setpriv', ['--pdeathsig', 'KILL', '--']),
      ...loaderCommand(root),
      join(root, 'usr/bin', name),
      ...firmware,
    ],
    // Debian's 1:10.0.13+ds-0+deb13u1 is upstream's 10.0.13.
    version: version.replace(/^\d+:/, '').replace(/[+-].*$/, ''),
    id: root.split('/').at(-1),
  };
}

async function hostQemu(name: string, signal: AbortSignal): Promise<QemuProgram> {
  const missing = new FastioError(
    'TOOL_MISSING',
    `there is no ${name} on this machine's PATH`,
    'Install it, or use --qemu locked, which needs nothing installed.',
  );
  const result = await run([name, '--version'], { signal }).catch((error: unknown) => {
    throw error instanceof FastioError && error.code === 'TOOL_MISSING' ? missing : error;
  });
  const version = /version (\d+\.\d+\.\d+)/.exec(result.stdout)?.[1] ?? 'unknown';
  // Only Linux can tie a process's life to its parent's; elsewhere the keeper and the sweep have to do.
  const tied = process.platform === 'linux' ? ['setpriv', '--pdeathsig', 'KILL', '--'] : [];
  return { command: [...tied, name], version, id: undefined };
}
