import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { projectRoot } from '../paths.js';
import type { Arch, KernelSeries } from '../vm.js';
import { type AgentSource, agentSources } from './agent.js';
import { initramfsLayout } from './initramfs.js';
import { layerKey } from './layers.js';
import { type Lock, readLock } from './lock.js';
import { hostArchitecture } from './tools.js';

/** Which guest: the two things that choose its lock files. */
export interface ImageSpec {
  readonly arch: Arch;
  readonly kernel: KernelSeries;
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
  hash.update(JSON.stringify(initramfsLayout));
  for (const { name, content } of agent) hash.update(`\n${name}\n`).update(content);
  // The compiler decides the agent's bytes; its version is the same in the locks of all hosts.
  hash.update(compilers.packages.find(({ name }) => name === 'gcc-14')?.version ?? '');
  return { guest, kernel, init, agent, id: `${arch}-${series}-${hash.digest('hex').slice(0, 16)}` };
}
