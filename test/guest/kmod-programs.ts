import { join } from 'node:path';
import { expect } from '@jest/globals';
import { loadModule } from '../../toolchain/load.js';
import type { BuildOptions } from '../../toolchain/build.js';
import { buildModule } from '../../toolchain/targets.js';
import { projectRoot } from '../../vm/paths.js';
import type { KernelSeries, Vm } from '../../vm/vm.js';
import { expectQuietKernel } from './guest.js';
import { buildKmodTests, buildLibraryTests } from './kmod-build.js';
import { parseKtap } from './ktap.js';

/** Where the programs and the module are in a guest. */
const guestDir = '/run/kmod-tests';

/** Builds module and programs for a guest, loads the one and pushes both; libfastio's tests are in `lib`. */
export async function installKmodTests(vm: Vm, kernel: KernelSeries, options: BuildOptions): Promise<void> {
  const { arch } = vm.info;
  const source = { directory: join(projectRoot, 'kmod'), name: 'fastio', arch, kernel };
  const module = await buildModule(source, options);
  const programs = await buildKmodTests(arch, options);
  await vm.push(programs, guestDir, options);
  await vm.push(await buildLibraryTests(arch, options), `${guestDir}/lib`, options);
  await vm.push(module.path, `${guestDir}/fastio.ko`, options);
  await loadModule(vm, module.path, { ...options, kernel });
}

/** Bounds of a fuzz run; kmod/tests/README.md says how to make a long one. */
const fuzz = {
  FASTIO_FUZZ_SECONDS: process.env['FASTIO_FUZZ_SECONDS'] ?? '30',
  FASTIO_FUZZ_SQES: process.env['FASTIO_FUZZ_SQES'] ?? '200000',
  FASTIO_FUZZ_SEED: process.env['FASTIO_FUZZ_SEED'] ?? '',
};
const programTimeoutMs = 300_000 + Number(fuzz.FASTIO_FUZZ_SECONDS) * 1_000;
/** For jest: the same as a guest under emulation on a busy host may take. */
export const ktapTimeoutMs = programTimeoutMs * 40;

/**
 * Runs one program to its end, shows its lines, and fails with those that failed, or when the kernel complained.
 * @param words Run only tests that have one of these in their names; none: all.
 */
export async function expectKtap(vm: Vm, program: string, words: readonly string[] = []): Promise<void> {
  const { mark } = await vm.kernelTrouble();
  const start = performance.now();
  const env = {
    FASTIO_TEST_SLOWNESS: vm.info.accel === 'tcg' ? '10' : '1',
    FASTIO_KO: `${guestDir}/fastio.ko`,
    // For the tests of the library, which are not to fall back to user space.
    FASTIO_BACKEND: 'kernel',
    ...fuzz,
  };

  const { status, stdout, stderr } = await vm.exec([`${guestDir}/${program}`, ...words], {
    env,
    timeoutMs: programTimeoutMs,
  });

  const seconds = ((performance.now() - start) / 1_000).toFixed(0);
  process.stderr.write(
    `${program}: ${vm.info.arch} ${vm.info.kernelRelease}, ${seconds} s\n${stdout}${stderr}`,
  );
  await expectQuietKernel(vm, mark);
  const report = parseKtap(stdout);
  const ended = report.passed + report.failed.length + report.skipped.length;
  expect({ status, failed: report.failed, ended }).toEqual({ status: 0, failed: [], ended: report.planned });
  expect(report.passed).toBeGreaterThan(0);
}
