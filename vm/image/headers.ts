import { join } from 'node:path';
import { cachePath, makeOnce } from './cache.js';
import { requireDisk } from './disk.js';
import { fetchPackages } from './fetch.js';
import type { ImageSpec } from './sources.js';
import { kernelRelease } from './kernel.js';
import { lockBytes, readLock } from './lock.js';
import type { MirrorOptions } from './mirrors.js';
import { unpackDebs } from './unpack.js';
import type { Work } from './work.js';

/** Unpacked headers over .deb size; measured 6.7. */
const unpackedRatio = 8;

/** What a cross build of a module needs of one kernel. */
export interface KernelHeaders {
  /** Bind it at /usr/src of the build root: it holds linux-headers-*; linux-kbuild-* is in the build root. */
  readonly usrSrc: string;
  /** As `uname -r` prints it. */
  readonly kernelRelease: string;
  /** KDIR as seen inside the build root: /usr/src/linux-headers-<release>. */
  readonly kdir: string;
  /** Host path of the list of exported symbols. */
  readonly moduleSymvers: string;
  /** Host path of the kernel's configuration. */
  readonly config: string;
}

/** Unpacked headers of one kernel, for builds in the compilers' root; fetched when the cache has none. */
export async function kernelHeaders(spec: ImageSpec, work: Work & MirrorOptions): Promise<KernelHeaders> {
  const lock = await readLock(`kernel-${spec.kernel}-${spec.arch}`);
  const release = kernelRelease(lock);
  const parent = await cachePath('headers');
  const directory = join(parent, `${lock.id}-${lock.hash.slice(0, 16)}`);
  await makeOnce(directory, work.signal, async (temp) => {
    const headers = {
      ...lock,
      packages: lock.packages.filter(({ name }) => name.startsWith('linux-headers-')),
    };
    const debOf = await fetchPackages(headers, work);
    await requireDisk(parent, lockBytes(headers) * unpackedRatio, `unpacking headers of ${release}`);
    work.report({ kind: 'stage', name: 'unpack', detail: `headers of ${release}` });
    await unpackDebs(headers.packages.map(debOf), temp, work.signal);
  });
  const usrSrc = join(directory, 'usr/src');
  const kdir = `/usr/src/linux-headers-${release}`;
  const inside = (name: string): string => join(directory, kdir, name);
  return {
    usrSrc,
    kernelRelease: release,
    kdir,
    moduleSymvers: inside('Module.symvers'),
    config: inside('.config'),
  };
}
