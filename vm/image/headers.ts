import type { ImageSpec } from './image.js';
import type { Work } from './work.js';

/** What a cross build of a module needs of one kernel. */
export interface KernelHeaders {
  /** Bind it at /usr/src of the build root: it holds linux-headers-*; linux-kbuild-* is in the build root. */
  readonly usrSrc: string;
  /** As `uname -r` prints it. */
  readonly kernelRelease: string;
  /** KDIR as seen inside the build root: /usr/src/linux-headers-<release>. */
  readonly kdir: string;
  readonly moduleSymvers: string;
  readonly config: string;
}

/** Unpacked headers of one kernel, for builds in the compilers' root. */
export function kernelHeaders(spec: ImageSpec, work: Work): Promise<KernelHeaders> {
  return Promise.reject(new Error(`not built yet: ${spec.arch} ${work.signal.aborted}`));
}
