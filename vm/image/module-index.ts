import { createHash } from 'node:crypto';
import { copyFile, mkdir, rm, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { runOrThrow } from '../exec.js';
import { cachePath, makeOnce } from './cache.js';
import { kernelRelease } from './kernel.js';
import { layerDirectory, layerKey } from './layers.js';
import { readLock } from './lock.js';
import type { MirrorOptions } from './mirrors.js';
import type { ImageSpec } from './sources.js';
import { squashfsName } from './squash.js';
import { toolCommand, toolsRoot } from './tools.js';
import type { Work } from './work.js';

/** A module that no package brought. */
export interface AddedModule {
  /** Its file on the host: `<name>.ko`. */
  readonly path: string;
  /** The modules it needs, as its .modinfo names them: `depends=a,b`. */
  readonly depends: string;
}

/** Where depmod looks first: a module there stands before the kernel's own of the same name. */
export const addedDirectory = 'updates';
/** What finds a module and those it needs by name, for people and for programs. */
const indexNames = ['modules.dep', 'modules.dep.bin'] as const;

export interface ModuleIndex {
  /** Names the bytes: changes with what modules there are and what they need, not with their code. */
  readonly id: string;
  /** Holds the files that belong into the guest's /lib/modules/<release>. */
  readonly directory: string;
}

/**
 * The index of a kernel's modules with others in `updates/` beside them, as depmod makes it. depmod reads every module of
 * the kernel, which takes an emulated guest 9 to 18 seconds and the host half of one, and is done once for each set.
 */
export async function moduleIndex(
  spec: ImageSpec,
  added: readonly AddedModule[],
  work: Work & MirrorOptions,
): Promise<ModuleIndex> {
  const lock = await readLock(`kernel-${spec.kernel}-${spec.arch}`);
  const names = added.map(({ path, depends }) => [basename(path), depends].join(' ')).sort();
  const hash = createHash('sha256').update(JSON.stringify([layerKey(lock), indexNames, names]));
  const id = hash.digest('hex').slice(0, 16);
  const cached = join(await cachePath('indexes'), id);
  await makeOnce(cached, work.signal, async (temp) => {
    work.report({ kind: 'stage', name: 'index', detail: added.map(({ path }) => basename(path)).join(' ') });
    const root = await toolsRoot('run', work);
    const layer = await layerDirectory(lock, { ...work, runRoot: () => Promise.resolve(root) });
    const release = kernelRelease(lock);
    const tree = join(temp, 'tree');
    const modules = join('usr/lib/modules', release);
    const { signal } = work;
    const unsquash = ['-quiet', '-no-progress', '-no-xattrs', '-dest', tree];
    await runOrThrow(toolCommand(root, 'unsquashfs', [...unsquash, join(layer, squashfsName), modules]), {
      signal,
    });
    await symlink('usr/lib', join(tree, 'lib'));
    await mkdir(join(tree, modules, addedDirectory), { recursive: true });
    for (const { path } of added) await copyFile(path, join(tree, modules, addedDirectory, basename(path)));
    await runOrThrow(toolCommand(root, 'depmod', ['-b', tree, release]), { signal });
    await mkdir(join(temp, 'index'));
    for (const name of indexNames) await copyFile(join(tree, modules, name), join(temp, 'index', name));
    await rm(tree, { recursive: true });
  });
  return { id, directory: join(cached, 'index') };
}
