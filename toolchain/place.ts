import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { AddedModule } from '../vm/image/module-index.js';
import { addedDirectory, moduleIndex } from '../vm/image/module-index.js';
import type { Report } from '../vm/progress.js';
import type { KernelSeries, Vm } from '../vm/vm.js';
import { readModule } from './elf.js';

export interface PlaceOptions {
  readonly report: Report;
  readonly signal: AbortSignal;
  /** The guest's kernel, whose own modules stay in the index. */
  readonly kernel: KernelSeries;
}

/**
 * Puts a module where modinfo and modprobe find it by name, beside those that were put there before.
 * @returns its path in the guest.
 */
export async function placeModule(vm: Vm, modulePath: string, options: PlaceOptions): Promise<string> {
  const { signal, kernel } = options;
  const modules = `/lib/modules/${vm.info.kernelRelease}`;
  const added = `${modules}/${addedDirectory}`;
  const target = `${added}/${basename(modulePath)}`;
  await vm.push(modulePath, target, { signal });
  // The id of the index in use, then the modules that are there.
  const look = 'cd "$1" && { cat .index 2>/dev/null || echo none; } && ls -- *.ko';
  const { stdout } = await vm.exec(['sh', '-c', look, 'look', added], { signal });
  const [id, ...names] = stdout.trim().split('\n');
  const others = names.filter((name) => name !== basename(modulePath));
  const temp = others.length === 0 ? undefined : await mkdtemp(join(tmpdir(), 'fastio-modules-'));
  try {
    if (temp !== undefined) await vm.pull(added, temp, { signal });
    const paths = [modulePath, ...others.map((name) => join(temp ?? '', name))];
    const all = await Promise.all(paths.map(describe));
    const index = await moduleIndex({ arch: vm.info.arch, kernel }, all, options);
    if (index.id === id) return target;
    await vm.push(index.directory, modules, { signal });
    const note = 'echo "$1" >"$2"/.index';
    await vm.exec(['sh', '-c', note, 'note', index.id, added], { signal });
    return target;
  } finally {
    if (temp !== undefined) await rm(temp, { recursive: true });
  }
}

async function describe(path: string): Promise<AddedModule> {
  const { info } = readModule(path, await readFile(path));
  return { path, depends: info.get('depends') ?? '' };
}
