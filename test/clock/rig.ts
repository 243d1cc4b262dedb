import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClockOptions } from '../../vm/clock/clock.js';
import { runJob, type JobResult } from '../../vm/clock/job.js';
import type { JobGroup, JobStep } from '../../vm/clock/steps.js';
import { compileC } from '../../vm/image/compile.js';
import { toolsRoot } from '../../vm/image/tools.js';
import { bootQemu } from '../../vm/machine/qemu-vm.js';
import { projectRoot } from '../../vm/paths.js';
import type { VmSpec } from '../../vm/vm.js';
import { defaultSpec, noSignal, report } from '../guest/guest.js';

/** Wall-clock limit of a calibration job; they take seconds on an idle host. */
const jobMs = 600_000;

/** A directory for a job's files with the calibration program in it, removed on disposal. */
export async function calibrationFiles(): Promise<{ directory: string } & AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), 'fastio-clock-'));
  const program = await compileC(
    {
      what: 'the calibration program',
      where: 'test/clock/guest',
      arch: 'arm64',
      sources: [
        {
          name: 'calibrate.c',
          content: await readFile(join(projectRoot, 'test/clock/guest/calibrate.c')),
        },
      ],
      flags: ['-static', '-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-s'],
    },
    await toolsRoot('build', { report, signal: noSignal }),
    noSignal,
  );
  await mkdir(join(directory, 'bin'));
  await writeFile(join(directory, 'bin/calibrate'), program);
  await chmod(join(directory, 'bin/calibrate'), 0o755);
  return { directory, [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
}

/** A step that runs a verb of the calibration program in a window of its own, fine quantum included. */
export function inWindow(id: string, ...verb: readonly (string | number)[]): JobStep {
  return {
    kind: 'run',
    id,
    argv: ['/fastio-job/vclock', 'window', 'calibrate', ...verb.map(String)],
    timeoutMs: 60_000,
  };
}

/** A step that runs a verb outside of windows, at the coarse quantum. */
export function outside(id: string, ...verb: readonly (string | number)[]): JobStep {
  return { kind: 'run', id, argv: ['calibrate', ...verb.map(String)], timeoutMs: 60_000 };
}

export interface Calibration {
  readonly job: JobResult;
  /** What a step printed. Throws with its stderr when it failed. */
  output(id: string): Printed;
}

/** What the calibration program prints; which fields are there depends on the verb. */
export interface Printed {
  readonly each: number;
  readonly ns: readonly number[];
  /** From the first thread's start to the last one's end. */
  readonly spanNs: number;
  readonly reads: number;
  readonly backwards: number;
  readonly holds: number;
  readonly count: number;
  readonly sleeps: readonly {
    readonly wantedNs: number;
    readonly monotonicNs: number;
    readonly realtimeNs: number;
    readonly timerfdNs: number;
  }[];
}

/** Settles a guest and runs the steps in it, each whatever became of the ones before. */
export async function calibrate(
  name: string,
  cpus: number,
  steps: readonly JobStep[],
  clock: Partial<ClockOptions> & { readonly seed: number },
): Promise<Calibration> {
  await using files = await calibrationFiles();
  const settle: JobGroup = { id: 'settle', steps: [{ kind: 'settle' }] };
  const groups = steps.flatMap((step) => (step.kind === 'settle' ? [] : [{ id: step.id, steps: [step] }]));
  const spec: VmSpec = { ...defaultSpec, cpus };
  const work = { groups: [settle, ...groups], files: files.directory, symbols: clock.profile === true };
  const job = await runJob(spec, work, clock, {
    bootVm: bootQemu,
    name: `clock-${process.pid}-${name}`,
    report,
    signal: AbortSignal.timeout(jobMs),
  });
  return {
    job,
    output: (id) => {
      const step = job.steps.get(`${id}.${id}`);
      if (step?.status !== 0)
        throw new Error(`${id}: status ${step?.status ?? 'none'}: ${step?.stderr ?? ''}`);
      return JSON.parse(step.stdout) as Printed;
    },
  };
}

/** The greatest relative deviation of threads from one ns per instruction. */
export function loopError({ each, ns }: Printed): number {
  return Math.max(...ns.map((took) => Math.abs(took / each - 1)));
}
