import { beforeAll, expect, it } from '@jest/globals';
import { addonPrograms } from '../../toolchain/addon.js';
import { layOut } from '../../toolchain/artifacts.js';
import { buildModule } from '../../toolchain/targets.js';
import { projectRoot } from '../../vm/paths.js';
import type { Vm } from '../../vm/vm.js';
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

it.each([
  ['ring', 17],
  ['safety', 18],
  ['server', 12],
  ['connection', 13],
])(
  'the addon passes %s with the module, and the kernel has nothing to say',
  async (name, tests) => {
    const { mark } = await vm.kernelTrouble();

    const { status, stdout, stderr } = await vm.exec(
      ['node', '--test-reporter=tap', `${root}/addon/tests/${name}.js`],
      { env: { PATH: '/usr/bin:/bin', FASTIO_BACKEND: 'kernel' }, timeoutMs, signal: noSignal },
    );

    const failed = stdout.search(/^ *not ok/m);
    expect(`${failed < 0 ? '' : stdout.slice(failed).slice(0, 4000)}${status === 0 ? '' : stderr}`).toBe('');
    expect(Number(/^# pass (\d+)$/m.exec(stdout)?.[1])).toBeGreaterThanOrEqual(tests);
    await expectQuietKernel(vm, mark);
  },
  timeoutMs + 60_000,
);
