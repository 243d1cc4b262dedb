import type { Arch, KernelSeries } from '../vm.js';
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

/** The image for a spec, built when the cache has none. */
export function guestImage(spec: ImageSpec, work: Work): Promise<GuestImage> {
  return Promise.reject(new Error(`not built yet: ${spec.arch} ${work.signal.aborted}`));
}

/** Keeps `fastio clean` from removing an image while `pid` (a keeper's, say) lives; call the result to let go. */
export function holdImage(id: string, pid: number = process.pid): Promise<() => Promise<void>> {
  return Promise.reject(new Error(`not built yet: ${id} ${pid}`));
}
