import { beforeAll, expect, it } from '@jest/globals';
import { addonPrograms } from '../../toolchain/addon.js';
import { layOut } from '../../toolchain/artifacts.js';
import { buildModule } from '../../toolchain/targets.js';
import { projectRoot } from '../../vm/paths.js';
import type { Vm } from '../../vm/vm.js';
import type { AddonTests } from '../addon-programs.js';
import { addonTests, faultsOf } from '../addon-programs.js';
import { defaultSpec, expectQuietKernel, noSignal, report, sharedVm } from './guest.js';

const root = '/tmp/addon';
const work = { report, signal: noSignal };
/** They take less than a minute, and ten where other work has the host's CPUs: each of many hand-overs waits for one. */
const timeoutMs = 600_000;
let vm: Vm;

beforeAll(async () => {
  vm = await sharedVm();
  const { arch, kernel } = defaultSpec;
  const module = await buildModule({ directory: `${projectRoot}/kmod`, name: 'fastio', arch, kernel }, work);
  const placed = await addonPrograms(projectRoot, arch, work);
  const files = await layOut([...placed, { from: module.path, to: 'fastio.ko' }], noSignal);
  await vm.push(files.directory, root, { signal: noSignal });
  const script = `[ -e /dev/fastio ] || insmod ${root}/fastio.ko`;
  const { status, stderr } = await vm.exec(['sh', '-c', script], { signal: noSignal });
  if (status !== 0) throw new Error(`insmod: ${stderr}`);
});

it.each(['ring', 'abort', 'safety', 'server', 'connection'] satisfies AddonTests[])(
  'the addon passes %s with the module, and the kernel has nothing to say',
  async (name) => {
    const { mark } = await vm.kernelTrouble();

    const { status, stdout, stderr } = await vm.exec(
      ['node', '--test-reporter=tap', `${root}/addon/tests/${name}.js`],
      { env: { PATH: '/usr/bin:/bin', FASTIO_BACKEND: 'kernel' }, timeoutMs, signal: noSignal },
    );

    expect(`${faultsOf(stdout, addonTests[name])}${status === 0 ? '' : stderr}`).toBe('');
    await expectQuietKernel(vm, mark);
  },
  timeoutMs + 60_000,
);
