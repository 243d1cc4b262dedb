import { beforeAll, describe, it } from '@jest/globals';
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
