import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../errors.js';
import { cachePath, explainCache, removeWhole, sweep } from './cache.js';
import { holdersOf } from './hold.js';
import type { Work } from './work.js';

/** In every image's directory: names of the layers it is made of. */
export const layersName = 'layers.json';

export interface CleanOptions {
  /** Only tell what would be removed. */
  readonly dryRun: boolean;
}

export interface CleanResult {
  readonly removed: readonly { readonly path: string; readonly bytes: number }[];
  readonly kept: readonly { readonly path: string; readonly reason: string }[];
}

/**
 * Empties the cache: packages, roots, images, layers, builds, templates. What a running guest uses stays (its image
 * and layers, and the tools it runs from), and what is being made this moment.
 */
export async function cleanCache({ dryRun }: CleanOptions, { report, signal }: Work): Promise<CleanResult> {
  const root = await cachePath();
  const removed: { path: string; bytes: number }[] = [];
  const kept: { path: string; reason: string }[] = [];
  const inUse = await findInUse(await cachePath('images'));
  // Images first: whoever takes hold of one afterwards finds it gone, rather than without its layers.
  const sections = (await readdir(root)).sort((a, b) => Number(b === 'images') - Number(a === 'images'));
  for (const section of sections) {
    const directory = join(root, section);
    report({ kind: 'stage', name: 'clean', detail: directory });
    let packageBytes = 0;
    for (const name of await namesIn(directory, dryRun)) {
      signal.throwIfAborted();
      const path = join(directory, name);
      const reason = inUse.reason(section, name);
      if (reason !== undefined) {
        kept.push({ path, reason });
        continue;
      }
      const bytes = await sizeOf(path);
      if (!dryRun) await removeWhole(path);
      // Nobody wants to read hundreds of lines of hashes.
      if (section === 'debs') packageBytes += bytes;
      else removed.push({ path, bytes });
    }
    if (packageBytes > 0) removed.push({ path: directory, bytes: packageBytes });
  }
  return { removed, kept };
}

interface InUse {
  readonly reason: (section: string, name: string) => string | undefined;
}

async function findInUse(images: string): Promise<InUse> {
  const held = new Map<string, string>();
  const layers = new Map<string, string>();
  for (const name of await readdir(images)) {
    const directory = join(images, name);
    if (!(await lstat(directory)).isDirectory()) continue;
    const holders = await holdersOf(directory);
    if (holders.length === 0) continue;
    const reason = `used by process ${holders.join(', ')}`;
    held.set(name, reason);
    const parts = JSON.parse(await readFile(join(directory, layersName), 'utf8')) as readonly string[];
    parts.forEach((layer) => layers.set(layer, reason));
  }
  const anyHeld = [...held.values()][0];
  return {
    reason: (section, name) => {
      if (/\.lock$|\.tmp-/.test(name)) return 'being made';
      if (section === 'images') return held.get(name);
      if (section === 'layers') return layers.get(name);
      // A guest runs QEMU from its root, and may have been resumed from a template.
      const mayRemove = ['apt', 'debs', 'headers', 'work'].includes(section) || name.startsWith('build-');
      return mayRemove ? undefined : anyHeld;
    },
  };
}

async function namesIn(directory: string, dryRun: boolean): Promise<readonly string[]> {
  try {
    if (!dryRun) await sweep(directory);
    return (await readdir(directory)).sort();
  } catch (error) {
    // A file right in the cache's root is not ours.
    if (errnoOf(error) === 'ENOTDIR') return [];
    throw explainCache(error, directory);
  }
}

/** Bytes on disk of a file or everything below a directory. */
async function sizeOf(path: string): Promise<number> {
  const status = await lstat(path);
  if (!status.isDirectory()) return status.blocks * 512;
  const sizes = await Promise.all((await readdir(path)).map((name) => sizeOf(join(path, name))));
  return sizes.reduce((sum, bytes) => sum + bytes, status.blocks * 512);
}
