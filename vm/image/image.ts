import { createHash } from 'node:crypto';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { projectRoot } from '../paths.js';
import type { Arch, KernelSeries } from '../vm.js';
import { type AgentSource, agentSources, compileAgent } from './agent.js';
import { cachePath, makeOnce } from './cache.js';
import { makeInitramfs } from './initramfs.js';
import { kernelRelease } from './kernel.js';
import { layerDirectory, layerKey, type LayerWork, squashfsName } from './layers.js';
import { type Lock, readLock } from './lock.js';
import type { MirrorOptions } from './mirrors.js';
import { hostArchitecture, toolsRoot } from './tools.js';
import type { Work } from './work.js';

/** Which guest: the two things that choose its lock files. */
export interface ImageSpec {
  readonly arch: Arch;
  readonly kernel: KernelSeries;
}

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

/** Everything that decides an image's bytes. */
export interface ImageSources {
  readonly guest: Lock;
  readonly kernel: Lock;
  readonly init: Buffer;
  readonly agent: readonly AgentSource[];
  readonly id: string;
}

export async function imageSources({ arch, kernel: series }: ImageSpec): Promise<ImageSources> {
  const [guest, kernel, compilers, init, agent] = await Promise.all([
    readLock(`guest-${arch}`),
    readLock(`kernel-${series}-${arch}`),
    readLock(`build-${hostArchitecture()}`),
    readFile(join(projectRoot, 'vm/guest/init')),
    agentSources(),
  ]);
  const hash = createHash('sha256')
    .update(`${layerKey(guest)}\n${layerKey(kernel)}\n`)
    .update(init);
  for (const { name, content } of agent) hash.update(`\n${name}\n`).update(content);
  // The compiler decides the agent's bytes; its version is the same in the locks of all hosts.
  hash.update(compilers.packages.find(({ name }) => name === 'gcc-14')?.version ?? '');
  return { guest, kernel, init, agent, id: `${arch}-${series}-${hash.digest('hex').slice(0, 16)}` };
}

/** The image for a spec, built when the cache has none. */
export async function guestImage(spec: ImageSpec, work: Work & MirrorOptions): Promise<GuestImage> {
  const sources = await imageSources(spec);
  const directory = join(await cachePath('images'), sources.id);
  await makeOnce(directory, work.signal, async (temp) => {
    const stop = new AbortController();
    const either = { ...work, signal: AbortSignal.any([work.signal, stop.signal]) };
    try {
      await buildImage(spec, sources, temp, either);
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  });
  return await describe(spec, sources, directory);
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

async function buildImage(
  { arch }: ImageSpec,
  sources: ImageSources,
  directory: string,
  work: Work & MirrorOptions,
): Promise<void> {
  const runRoot = toolsRoot('run', work);
  runRoot.catch(() => undefined);
  const layerWork: LayerWork = { ...work, runRoot: () => runRoot };
  const buildRoot = toolsRoot('build', work);
  const [base, kernel, agent] = await Promise.all([
    layerDirectory(sources.guest, layerWork),
    layerDirectory(sources.kernel, layerWork),
    buildRoot.then((root) => compileAgent(arch, sources.agent, root, work.signal)),
  ]);
  await copyFile(join(kernel, 'vmlinuz'), join(directory, 'vmlinuz'));
  const initramfs = await makeInitramfs({ base, kernel, init: sources.init, agent });
  await writeFile(join(directory, 'initrd'), initramfs);
}
