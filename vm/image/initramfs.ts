import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CpioEntry, writeCpio } from './cpio.js';
import { readInitramfsModules } from './kernel.js';

/** busybox programs that vm/guest/init uses. */
const applets = [
  'sh',
  'mount',
  'mkdir',
  'insmod',
  'sleep',
  'sync',
  'poweroff',
  'reboot',
  'ln',
  'ip',
  'cp',
  'switch_root',
];

const directories = [
  'bin',
  'dev',
  'proc',
  'sys',
  'modules',
  'layers',
  'layers/base',
  'layers/kernel',
  'layers/changes',
  'newroot',
];

/** What decides an initramfs beside its parts. */
export const initramfsLayout: readonly (readonly string[])[] = [applets, directories];

export interface InitramfsParts {
  /** Directory of the userland's layer. */
  readonly base: string;
  /** Directory of the kernel's layer. */
  readonly kernel: string;
  readonly init: Buffer;
  readonly agent: Buffer;
}

/** The initramfs: what it takes to mount the layers and start the agent, uncompressed (inflating costs more). */
export async function makeInitramfs({ base, kernel, init, agent }: InitramfsParts): Promise<Buffer> {
  const order = await readInitramfsModules(kernel);
  const modules = await Promise.all(
    [...order.always, ...order.network].map(async (name) =>
      file(`modules/${name}`, await readFile(join(kernel, 'modules', name)), 0o644),
    ),
  );
  return writeCpio([
    ...directories.map((path): CpioEntry => ({ type: 'directory', path, mode: 0o755 })),
    // Without it the first process has no stdin, stdout and stderr.
    { type: 'character', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    file('bin/busybox', await readFile(join(base, 'busybox')), 0o755),
    ...applets.map((name): CpioEntry => ({
      type: 'symlink',
      path: `bin/${name}`,
      mode: 0o777,
      target: 'busybox',
    })),
    file('init', init, 0o755),
    file('agent', agent, 0o755),
    file('modules/always', lines(order.always), 0o644),
    file('modules/network', lines(order.network), 0o644),
    ...modules,
  ]);
}

function file(path: string, content: Buffer, mode: number): CpioEntry {
  return { type: 'file', path, mode, content };
}

function lines(items: readonly string[]): Buffer {
  return Buffer.from(items.map((item) => `${item}\n`).join(''));
}
