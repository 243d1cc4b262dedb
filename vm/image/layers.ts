import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError } from '../errors.js';
import { baseEntries, capturedForBase, isWantedInBase, replacedInBase, unwantedInBase } from './base.js';
import { cachePath, makeOnce } from './cache.js';
import { requireDisk } from './disk.js';
import { fetchPackages } from './fetch.js';
import { buildKernel } from './kernel.js';
import { lockBytes, type Lock } from './lock.js';
import type { MirrorOptions } from './mirrors.js';
import { initramfsModules } from './modules.js';
import { squashfsName, squashPackages } from './squash.js';
import type { Work } from './work.js';

/** Part of every layer's name: raise it whenever the code makes other bytes from the same lock. */
const assemblerVersion = 1;

/** What building writes, over .deb size: a lz4 squashfs, and a kernel's modules unpacked for depmod. */
const writtenRatio = { base: 2.5, kernel: 8 } as const;

export interface LayerWork extends Work, MirrorOptions {
  /** Gives the tools root; called only when something must be built. */
  readonly runRoot: () => Promise<string>;
}

/** Everything but the packages that one layer's builder gets. */
export interface BuildContext {
  readonly debOf: (entry: Lock['packages'][number]) => string;
  /** Tools root with sqfstar and depmod. */
  readonly root: string;
  readonly signal: AbortSignal;
  /** Dates what no package dates. */
  readonly epochSeconds: number;
}

/** Names a layer's bytes: the lock, and the rules that turn its packages into files. */
export function layerKey(lock: Lock): string {
  const rules = [baseEntries(new Map()), unwantedInBase.source, initramfsModules];
  const text = JSON.stringify([assemblerVersion, lock.hash, lock.snapshot, rules]);
  return `${lock.id}-${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
}

/**
 * The directory of a finished layer, built when the cache has none: `<cache>/layers/<key>`. A userland has
 * layer.squashfs and busybox; a kernel has layer.squashfs, vmlinuz and modules for the initramfs.
 */
export async function layerDirectory(lock: Lock, work: LayerWork): Promise<string> {
  const directory = join(await cachePath('layers'), layerKey(lock));
  await makeOnce(directory, work.signal, (temp) => buildLayer(lock, temp, work));
  return directory;
}

/** Builds a layer into an empty directory. */
export async function buildLayer(lock: Lock, directory: string, work: LayerWork): Promise<void> {
  const [debOf, root] = await Promise.all([fetchPackages(lock, work), work.runRoot()]);
  const isKernel = lock.id.startsWith('kernel-');
  const bytes = lockBytes(lock) * writtenRatio[isKernel ? 'kernel' : 'base'];
  await requireDisk(directory, bytes, `assembling ${lock.id}`);
  work.report({ kind: 'stage', name: 'assemble', detail: lock.id });
  const context = { debOf, root, signal: work.signal, epochSeconds: epochOf(lock) };
  await (isKernel ? buildKernel : buildBase)(lock, directory, context);
}

async function buildBase(lock: Lock, directory: string, context: BuildContext): Promise<void> {
  const plan = {
    debs: lock.packages.map(context.debOf),
    keep: isWantedInBase,
    capture: capturedForBase,
    replaced: replacedInBase,
    extra: baseEntries,
    epochSeconds: context.epochSeconds,
  };
  const captured = await squashPackages(plan, join(directory, squashfsName), context);
  const busybox = captured.get('usr/bin/busybox');
  if (busybox === undefined) {
    throw new FastioError(
      'LOCK_INVALID',
      `${lock.id} has no busybox`,
      'Add busybox-static to packages.yaml.',
    );
  }
  await writeFile(join(directory, 'busybox'), busybox, { mode: 0o755 });
}

/** The lock's snapshot time, 20260912T075541Z, in seconds since 1970. */
function epochOf(lock: Lock): number {
  const iso = lock.snapshot.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z');
  return Math.floor(Date.parse(iso) / 1000);
}
