import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError } from '../errors.js';

/** What the initramfs needs to reach the disks, and what a guest's devices need that the kernel has only as modules. */
export const initramfsModules = {
  always: ['virtio_pci', 'virtio_blk', 'virtio_console', 'squashfs', 'overlay'],
  /** Loaded only when the guest has a network interface. */
  network: ['virtio_net'],
} as const;

/** Modules in an order in which each can be loaded, as paths below the modules directory. */
export interface LoadOrder {
  readonly always: readonly string[];
  readonly network: readonly string[];
}

/**
 * Resolves `initramfsModules` with the files that depmod made.
 * @param directory lib/modules/<release>, with modules.dep and modules.builtin.
 * @throws FastioError LOCK_INVALID when the kernel has one neither built in nor as a module.
 */
export async function loadOrder(directory: string): Promise<LoadOrder> {
  const dependencies = parseDependencies(await readFile(join(directory, 'modules.dep'), 'utf8'));
  const builtin = new Set(
    (await readFile(join(directory, 'modules.builtin'), 'utf8')).split('\n').map(moduleName),
  );
  const files = (names: readonly string[]): string[] =>
    names.flatMap((name) => {
      const found = dependencies.get(name);
      if (found !== undefined) return found;
      if (builtin.has(name)) return [];
      throw new FastioError(
        'LOCK_INVALID',
        `the kernel in ${directory} has no module ${name}`,
        'Choose another kernel package in vm/image/packages.yaml.',
      );
    });
  const always = [...new Set(files(initramfsModules.always))];
  const network = files(initramfsModules.network).filter((file) => !always.includes(file));
  return { always, network };
}

/** modules.dep: each module with all it needs, what must be loaded first at the end of the line. */
function parseDependencies(text: string): ReadonlyMap<string, string[]> {
  const dependencies = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [file, rest] = line.split(':', 2);
    if (file === undefined || rest === undefined) continue;
    const needed = rest.split(' ').filter((word) => word !== '');
    dependencies.set(moduleName(file), [...needed.reverse(), file]);
  }
  return dependencies;
}

function moduleName(path: string): string {
  const base = path.slice(path.lastIndexOf('/') + 1);
  return base.replace(/\.ko(\.[a-z]+)?$/, '').replaceAll('-', '_');
}
