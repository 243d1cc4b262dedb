import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Arch, KernelSeries } from '../vm.js';
import { compileAgent } from './agent.js';
import { cachePath, exists, makeOnce, tempBeside } from './cache.js';
import { layersName } from './clean.js';
import { holdersOf } from './hold.js';
import { makeInitramfs } from './initramfs.js';
import { kernelRelease } from './kernel.js';
import { buildLayer, layerDirectory, layerKey, type LayerWork } from './layers.js';
import type { MirrorOptions } from './mirrors.js';
import { type ImageSources, imageSources, type ImageSpec } from './sources.js';
import { squashfsName } from './squash.js';
import { toolsRoot } from './tools.js';
import type { Work } from './work.js';

export type { ImageSpec } from './sources.js';
export { holdImage } from './hold.js';

/** A guest image in the cache, ready to boot. All paths are absolute and read-only by agreement. */
export interface GuestImage {
  /** Hash of everything that went in: equal ids are equal bytes. */
  readonly id: string;
  readonly arch: Arch;
  readonly kernelSeries: KernelSeries;
  /** As `uname -r` prints it. */
  readonly kernelRelease: string;
  /** For QEMU's `-kernel`. */
  readonly kernel: string;
  /** For QEMU's `-initrd`: busybox, init, a few modules, the agent. */
  readonly initrd: string;
  /** squashfs of the userland: the guest's first virtio-blk disk, /dev/vda. */
  readonly base: string;
  /** squashfs of modules, headers and kbuild: the second disk, /dev/vdb. */
  readonly kernelLayer: string;
}

/** The image for a spec, built when the cache has none. */
export async function guestImage(spec: ImageSpec, work: Work & MirrorOptions): Promise<GuestImage> {
  const sources = await imageSources(spec);
  const directory = join(await cachePath('images'), sources.id);
  await makeOnce(directory, work.signal, (temp) => buildImage(spec, sources, temp, work));
  // They are shared with other images, and may have been broken or removed by hand.
  const layerWork = withRunRoot(work);
  await layerDirectory(sources.guest, layerWork);
  await layerDirectory(sources.kernel, layerWork);
  return await describe(spec, sources, directory);
}

export interface ImageStatus {
  readonly image: GuestImage;
  readonly isBuilt: boolean;
  /** Processes that hold it. */
  readonly holders: readonly number[];
}

/** What the cache knows of an image; builds and fetches nothing. */
export async function imageStatus(spec: ImageSpec): Promise<ImageStatus> {
  const sources = await imageSources(spec);
  const directory = join(await cachePath('images'), sources.id);
  const isBuilt = await exists(directory);
  const holders = isBuilt ? await holdersOf(directory) : [];
  return { image: await describe(spec, sources, directory), isBuilt, holders };
}

/** Builds everything of an image below `directory`, layers excepted: those go to their own place in the cache. */
async function buildImage(
  { arch }: ImageSpec,
  sources: ImageSources,
  directory: string,
  work: Work & MirrorOptions,
): Promise<void> {
  const [base, kernel, agent] = await allOrStop(work, (either) => {
    const layerWork = withRunRoot(either);
    return [
      layerDirectory(sources.guest, layerWork),
      layerDirectory(sources.kernel, layerWork),
      toolsRoot('build', either).then((root) => {
        either.report({ kind: 'stage', name: 'compile', detail: `guest agent for ${arch}` });
        return compileAgent(arch, sources.agent, root, either.signal);
      }),
    ];
  });
  await copyFile(join(kernel, 'vmlinuz'), join(directory, 'vmlinuz'));
  const initramfs = await makeInitramfs({ base, kernel, init: sources.init, agent });
  await writeFile(join(directory, 'initrd'), initramfs);
  await writeFile(
    join(directory, layersName),
    JSON.stringify([layerKey(sources.guest), layerKey(sources.kernel)]),
  );
}

/** One unpacking of the tools root for all who ask, begun when the first one does. */
function withRunRoot(work: Work & MirrorOptions): LayerWork {
  let root: Promise<string> | undefined;
  return { ...work, runRoot: () => (root ??= toolsRoot('run', work)) };
}

/** Runs parts side by side; when one fails, the others are stopped and have ended before anybody hears of it. */
async function allOrStop<T extends readonly unknown[]>(
  work: Work & MirrorOptions,
  start: (work: Work & MirrorOptions) => { readonly [K in keyof T]: Promise<T[K]> },
): Promise<T> {
  const stop = new AbortController();
  const parts = start({ ...work, signal: AbortSignal.any([work.signal, stop.signal]) });
  try {
    return await Promise.all(parts);
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(parts);
    throw error;
  }
}

/** Where everything of an image is, whether it is there or not. */
async function describe(spec: ImageSpec, sources: ImageSources, directory: string): Promise<GuestImage> {
  const layers = await cachePath('layers');
  return {
    id: sources.id,
    arch: spec.arch,
    kernelSeries: spec.kernel,
    kernelRelease: kernelRelease(sources.kernel),
    kernel: join(directory, 'vmlinuz'),
    initrd: join(directory, 'initrd'),
    base: join(layers, layerKey(sources.guest), squashfsName),
    kernelLayer: join(layers, layerKey(sources.kernel), squashfsName),
  };
}

export interface VerifyResult {
  /** Whether every file is. */
  readonly same: boolean;
  readonly files: readonly {
    readonly name: string;
    readonly same: boolean;
    /** Of the file in the cache. */
    readonly sha256: string;
  }[];
}

/** Builds an image once more from its lock, beside the cached one, and compares every byte. */
export async function verifyImage(spec: ImageSpec, work: Work & MirrorOptions): Promise<VerifyResult> {
  const image = await guestImage(spec, work);
  const sources = await imageSources(spec);
  const again = tempBeside(join(await cachePath('work'), 'verify'));
  const [base, kernel] = [join(again, 'base'), join(again, 'kernel')];
  try {
    await mkdir(base, { recursive: true });
    await mkdir(kernel);
    await buildLayer(sources.guest, base, withRunRoot(work));
    await buildLayer(sources.kernel, kernel, withRunRoot(work));
    const agent = await compileAgent(spec.arch, sources.agent, await toolsRoot('build', work), work.signal);
    const initrd = await makeInitramfs({ base, kernel, init: sources.init, agent });
    const files = await Promise.all([
      compare('kernel', image.kernel, hashFile(join(kernel, 'vmlinuz'))),
      compare('initrd', image.initrd, createHash('sha256').update(initrd).digest('hex')),
      compare('base', image.base, hashFile(join(base, squashfsName))),
      compare('kernel layer', image.kernelLayer, hashFile(join(kernel, squashfsName))),
    ]);
    return { same: files.every(({ same }) => same), files };
  } finally {
    await rm(again, { recursive: true, force: true });
  }
}

async function compare(
  name: string,
  cached: string,
  again: string | Promise<string>,
): Promise<VerifyResult['files'][number]> {
  const sha256 = await hashFile(cached);
  return { name, same: sha256 === (await again), sha256 };
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}
