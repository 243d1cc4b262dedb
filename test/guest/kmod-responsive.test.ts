import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { buildModule } from '../../toolchain/targets.js';
import { runJob } from '../../vm/clock/job.js';
import { bootQemu } from '../../vm/machine/qemu-vm.js';
import { projectRoot } from '../../vm/paths.js';
import { defaultSpec, hostTemp, noSignal, report } from './guest.js';
import { buildKmodTests } from './kmod-build.js';
import { parseKtap } from './ktap.js';

const options = { report, signal: noSignal };
const spec = { ...defaultSpec, cpus: 4 };

/** The job's files: the program on its PATH, and the module in its working directory. */
async function jobFiles(): Promise<string> {
  const { arch, kernel } = spec;
  const source = { directory: join(projectRoot, 'kmod'), name: 'fastio', arch, kernel };
  const module = await buildModule(source, options);
  const programs = await buildKmodTests(arch, options);
  const files = hostTemp();
  await mkdir(join(files, 'bin'));
  await copyFile(join(programs, 'responsive'), join(files, 'bin/responsive'));
  await copyFile(module.path, join(files, 'fastio.ko'));
  return files;
}

// Virtual time: pauses of a busy host do not count, and those of the module do.
it('accepts within 10 ms while all workers spin, from 64 to 10,000 descriptors', async () => {
  const steps = [
    { kind: 'run', id: 'load', argv: ['insmod', 'fastio.ko'], timeoutMs: 10_000 },
    // A kernel that has just booted still tests its ciphers, in a thread that takes a CPU from those that are timed.
    { kind: 'settle' },
    { kind: 'run', id: 'responsive', argv: ['responsive'], timeoutMs: 120_000 },
  ] as const;

  const job = await runJob(
    spec,
    { groups: [{ id: 'kmod', steps }], files: await jobFiles() },
    { seed: 1 },
    { bootVm: bootQemu, name: `kmod-${process.pid}-responsive`, ...options },
  );

  const result = job.steps.get('kmod.responsive');
  process.stderr.write(`${result?.stdout ?? 'not run'}${result?.stderr ?? ''}`);
  expect(job.kernelReports).toEqual([]);
  const { failed, passed, planned } = parseKtap(result?.stdout ?? '');
  expect(failed).toEqual([]);
  expect(passed).toBe(planned);
  expect(result?.status).toBe(0);
}, 3_600_000);
