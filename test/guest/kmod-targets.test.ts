import { describe, expect, it } from '@jest/globals';
import { bootQemu } from '../../vm/machine/qemu-vm.js';
import { architectures, kernels } from '../../vm/vm.js';
import { defaultSpec, noSignal, report } from './guest.js';
import { basicPrograms, libraryPrograms } from './kmod-build.js';
import { expectKtap, installKmodTests } from './kmod-programs.js';

const others = architectures
  .flatMap((arch) => kernels.map((kernel) => ({ arch, kernel })))
  .filter(({ arch, kernel }) => arch !== defaultSpec.arch || kernel !== defaultSpec.kernel);

/** Who serves the ring is no matter of the kernel's version or architecture: two of up to six variants will do. */
function wordsOf(program: string): readonly string[] {
  return /^(ops_|scenarios)/.test(program) ? ['(inline)', '(sleeping worker, slot)'] : [];
}

describe.each(others)('the kernel module on $arch, Linux $kernel', ({ arch, kernel }) => {
  it('loads and passes the basic set and libfastio’s tests, and the kernel has nothing to say', async () => {
    const options = { report, signal: noSignal };
    await using vm = await bootQemu(
      { ...defaultSpec, arch, kernel },
      { name: `kmod-${process.pid}`, accel: 'auto', requireAccel: false, ...options },
    );
    await installKmodTests(vm, kernel, options);
    const file = await vm.exec(['modinfo', '--field=filename', 'fastio']);
    expect(file.stdout.trim()).toBe(`/lib/modules/${vm.info.kernelRelease}/updates/fastio.ko`);

    for (const program of basicPrograms) await expectKtap(vm, program, wordsOf(program));
    for (const program of libraryPrograms) await expectKtap(vm, `lib/${program}`);
  }, 3_600_000);
});
