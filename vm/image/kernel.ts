import { copyFile, lstat, mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FastioError } from '../errors.js';
import { runOrThrow } from '../exec.js';
import { isWantedInBase } from './base.js';
import type { BuildContext } from './layers.js';
import type { Lock, LockedPackage } from './lock.js';
import type { LayerEntry } from './merge.js';
import { loadOrder, type LoadOrder } from './modules.js';
import { squashfsName, squashPackages } from './squash.js';
import { toolCommand } from './tools.js';
import { unpackDebs } from './unpack.js';

/** Decompressors at work at once. */
const parallelDecompressors = 2;

/** `uname -r` of the kernel that a lock holds. */
export function kernelRelease(lock: Lock): string {
  return imagePackage(lock).name.slice('linux-image-'.length);
}

/** Modules for the initramfs, in a kernel layer's directory: `modules.json`, and the files in `modules/`. */
export async function readInitramfsModules(directory: string): Promise<LoadOrder> {
  return JSON.parse(await readFile(join(directory, 'modules.json'), 'utf8')) as LoadOrder;
}

/**
 * Builds a kernel's layer: modules (decompressed, so that loading one costs no xz in an emulated guest), their index
 * by depmod, headers and kbuild. Beside it the kernel itself and the modules that the initramfs loads.
 */
export async function buildKernel(lock: Lock, directory: string, context: BuildContext): Promise<void> {
  const release = kernelRelease(lock);
  const image = imagePackage(lock);
  const tree = join(directory, 'tree');
  await mkdir(tree);
  await unpackDebs([context.debOf(image)], tree, context.signal);
  const modules = join(tree, 'usr/lib/modules', release);
  await decompressModules(modules, context.signal);
  await runOrThrow(toolCommand(context.root, 'depmod', ['-b', tree, release]), { signal: context.signal });
  await copyFile(join(tree, 'boot', `vmlinuz-${release}`), join(directory, 'vmlinuz'));
  await collectInitramfsModules(modules, directory);
  const plan = {
    debs: lock.packages.filter((entry) => entry !== image).map(context.debOf),
    keep: isWantedInBase,
    capture: new Set<string>(),
    replaced: new Set<string>(),
    extra: () => walk(tree, `usr/lib/modules/${release}`),
    epochSeconds: context.epochSeconds,
  };
  await squashPackages(plan, join(directory, squashfsName), context);
  await rm(tree, { recursive: true });
}

function imagePackage(lock: Lock): LockedPackage {
  const found = lock.packages.find(({ name }) => /^linux-image-\d/.test(name));
  if (found !== undefined) return found;
  throw new FastioError(
    'LOCK_INVALID',
    `${lock.id} has no linux-image-*`,
    `Make it anew: fastio image lock ${lock.id}`,
  );
}

async function decompressModules(modules: string, signal: AbortSignal): Promise<void> {
  const files = (await readdir(modules, { recursive: true })).filter((name) => name.endsWith('.ko.xz'));
  const share = Math.ceil(files.length / parallelDecompressors);
  const parts = Array.from({ length: parallelDecompressors }, (_, index) =>
    files.slice(index * share, (index + 1) * share),
  );
  await Promise.all(
    parts
      .filter((part) => part.length > 0)
      .map((part) => runOrThrow(['xz', '--decompress', '--', ...part], { signal, cwd: modules })),
  );
}

async function collectInitramfsModules(modules: string, directory: string): Promise<void> {
  const order = await loadOrder(modules);
  await mkdir(join(directory, 'modules'));
  for (const file of [...order.always, ...order.network]) {
    await copyFile(join(modules, file), join(directory, 'modules', basename(file)));
  }
  const names: LoadOrder = {
    always: order.always.map((f) => basename(f)),
    network: order.network.map((f) => basename(f)),
  };
  await writeFile(join(directory, 'modules.json'), `${JSON.stringify(names, undefined, 2)}\n`);
}

/** What is below `path` of `tree`, in the order of names, whatever order the disk has. */
async function* walk(tree: string, path: string): AsyncGenerator<LayerEntry> {
  const full = join(tree, path);
  const status = await lstat(full);
  const mode = status.mode & 0o7777;
  if (status.isSymbolicLink()) yield { type: 'symlink', path, mode: 0o777, target: await readlink(full) };
  else if (status.isDirectory()) {
    yield { type: 'directory', path, mode: 0o755 };
    for (const name of (await readdir(full)).sort()) yield* walk(tree, `${path}/${name}`);
  } else yield { type: 'file', path, mode: mode | 0o444, content: await readFile(full) };
}
