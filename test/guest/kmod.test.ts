import { beforeAll, describe, expect, it } from '@jest/globals';
import { unloadModule } from '../../toolchain/load.js';
import type { Vm } from '../../vm/vm.js';
import { defaultSpec, noSignal, report, sharedVm } from './guest.js';
import { basicPrograms, libraryPrograms, longPrograms } from './kmod-build.js';
import { expectKtap, installKmodTests, ktapTimeoutMs } from './kmod-programs.js';

let vm: Vm;

beforeAll(async () => {
  vm = await sharedVm();
  await installKmodTests(vm, defaultSpec.kernel, { report, signal: noSignal });
});

describe('libfastio on the kernel module', () => {
  it.each(libraryPrograms)(
    'passes its own test %s, and the kernel has nothing to say',
    async (program) => {
      await expectKtap(vm, `lib/${program}`);
    },
    ktapTimeoutMs,
  );
});

it('is not taken out of the kernel while it is used, and it is said by whom', async () => {
  const { stdout } = await vm.exec(['sh', '-c', 'sleep 1000 </dev/fastio >/dev/null 2>&1 & echo $!']);
  const user = stdout.trim();

  const unloading = unloadModule(vm, 'fastio', noSignal);

  await expect(unloading).rejects.toMatchObject({
    code: 'GUEST_BUSY',
    message: expect.stringContaining(`used by: ${user} (sleep)`),
  });
  await vm.exec(['kill', user]);
});

// The last program reloads the module.
describe('the kernel module in the default guest', () => {
  it.each([...basicPrograms, ...longPrograms])(
    'passes %s, and the kernel has nothing to say',
    async (program) => {
      await expectKtap(vm, program);
    },
    ktapTimeoutMs,
  );
});
