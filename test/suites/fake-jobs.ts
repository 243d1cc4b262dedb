import { FastioError } from '../../vm/errors.js';
import type { KernelReport } from '../../vm/vm.js';
import type { ClockWindow, VcpuCounts } from '../../vm/clock/log.js';
import type { StepResult } from '../../vm/clock/job.js';
import type { JobGroup, JobStep } from '../../vm/clock/steps.js';
import { placeOf } from '../../suites/run/job.js';
import type { RunJob } from '../../suites/run/options.js';
import { fakeServers, loadJson, valueOf } from './fake-vm.js';

/** What goes wrong with a server in a job, by its program and the number of the job (from 0). */
export interface JobMishaps {
  readonly crashAtStart?: (program: string) => boolean;
  readonly silent?: (program: string) => boolean;
  readonly crashUnderLoad?: (program: string) => boolean;
  readonly wrongBytes?: (program: string) => boolean;
  readonly splat?: (program: string) => boolean;
  readonly insmodFails?: boolean;
  readonly panic?: (program: string, job: number) => boolean;
  /** Called before each job. */
  readonly before?: (job: number) => void;
}

export interface FakeJobs {
  readonly runJob: RunJob;
  readonly count: () => number;
  /** The greatest number that were under way at once. */
  readonly atOnce: () => number;
  /** Seeds in the order of the jobs. */
  readonly seeds: readonly number[];
  /** argv of every step. */
  readonly commands: readonly (readonly string[])[];
}

/** Busy figures of a vCPU in a fake window: all of it, so that CPUs used is the number of vCPUs that served. */
const busy: VcpuCounts = {
  ...{ executedNs: 0, spunNs: 0, lineNs: 0, lineTransfers: 0, userInstructions: 0, kernelInstructions: 0 },
  ...{ systemCalls: 0, exceptionReturns: 0, atomics: 0, ipis: 0, sleeps: 0 },
};

/** Guests under the virtual clock without a machine: what comes out depends on job and seed alone. */
export function fakeJobs(mishaps: JobMishaps = {}, noise = 0.01): FakeJobs {
  let started = 0;
  let running = 0;
  let most = 0;
  const seeds: number[] = [];
  const commands: (readonly string[])[] = [];
  const runJob: RunJob = async (spec, { groups }, { seed, costProfile }, { signal, onStep }) => {
    const number = started;
    started += 1;
    seeds.push(seed);
    mishaps.before?.(number);
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    signal.throwIfAborted();
    const measured = groups.filter(({ id }) => placeOf(id) !== undefined);
    const programs = measured.map(({ steps: list }) => serverWords(list)[0] ?? '');
    commands.push(...groups.flatMap(({ steps: list }) => list.map(words)).filter((argv) => argv.length > 0));
    if (programs.some((program) => mishaps.panic?.(program, number) === true)) {
      throw new FastioError('GUEST_PANIC', 'the guest kernel panicked', 'Read console.log.', {
        detail: ['Kernel panic - not syncing'],
      });
    }
    const steps = new Map<string, StepResult>();
    const windows: ClockWindow[] = [];
    const put = (name: string, status: number | undefined, stdout = '', stderr = ''): void => {
      steps.set(name, { status, stdout, stderr });
    };
    const measure = ({ id, steps: list }: JobGroup): void => {
      const argv = serverWords(list);
      const program = argv[0] ?? '';
      let over = false;
      for (const step of list) {
        if (step.kind === 'settle' || step.kind === 'stop') continue;
        const name = `${id}.${step.id}`;
        if (over) {
          put(name, undefined);
          continue;
        }
        onStep(id, step.id);
        if (step.id === 'insmod') {
          over = mishaps.insmodFails === true;
          put(name, over ? 1 : 0, '', over ? 'insmod: Invalid module format\n' : '');
        } else if (step.id === 'server') {
          const crashes = mishaps.crashAtStart?.(program) === true;
          const silent = mishaps.silent?.(program) === true;
          over = crashes || silent;
          if (crashes)
            put(name, 1, 'bind: address already in use\n', 'fastio-job: ended before it was ready\n');
          else if (silent) put(name, undefined, '', 'fastio-job: not ready in time\n');
          else put(name, undefined, 'READY port=20000 pid=7\n');
        } else {
          const wrong = mishaps.wrongBytes?.(program) === true;
          const crash = mishaps.crashUnderLoad?.(program) === true;
          over = wrong || crash;
          const load = words(step);
          const durationMs = Number.parseInt(valueOf(load, '--duration') ?? '10', 10);
          const cpus = valueOf(argv, '--cpus')?.split(',').map(Number) ?? [];
          windows.push(windowOf(durationMs, spec.cpus, new Set(cpus)));
          const output = loadJson({
            server: fakeServers[program] ?? { rps: () => 1_000, cpus: () => 1 },
            workers: Number(valueOf(argv, '--threads') ?? valueOf(argv, '--workers') ?? 1),
            durationMs,
            jitter: 1 + noise * Math.sin(seed * 12.9898 + windows.length),
            busy: 0.4,
            wrong,
          });
          const stderr = wrong ? 'load: connection 3: byte 17 is 0x41, expected 0x42\n' : '';
          put(name, wrong || crash ? 1 : 0, `${JSON.stringify(output)}\n`, stderr);
          if (crash) put(`${id}.server`, 139, 'READY port=20000 pid=7\n');
        }
      }
      if (!over) put(`${id}.server`, 0, 'READY port=20000 pid=7\n{"errors":0}\n');
    };
    measured.forEach(measure);
    put('guest.about', 0, 'clockSource=arch_sys_counter\ncommandLine=nokaslr\n');
    const splat: KernelReport = {
      severity: 'warning',
      headline: 'WARNING: CPU: 1 PID: 7 at worker.c:42',
      lines: ['Call trace:'],
    };
    return {
      steps,
      clock: {
        start: { kind: 'start', qemu: '10.0.13', vcpus: spec.cpus, arguments: '' },
        windows,
        end: undefined,
      },
      machine: { costProfile, description: `profile ${costProfile}` },
      kernelReports: programs.some((program) => mishaps.splat?.(program)) ? [splat] : [],
      kernelLog: ['[    0.000000] Booting Linux'],
      console: 'Booting Linux',
      kallsyms: '',
      kernelRelease: '6.12.107+deb13-cloud-arm64',
      qemuVersion: '10.0.13',
    };
  };
  return { runJob, count: () => started, atOnce: () => most, seeds, commands };
}

const words = (step: JobStep): readonly string[] => ('argv' in step ? step.argv : []);

function serverWords(steps: readonly JobStep[]): readonly string[] {
  const server = steps.find(({ kind }) => kind === 'start');
  return server === undefined ? [] : words(server);
}

/** A window in which the server's vCPUs were busy all the time, and the others idle. */
function windowOf(durationMs: number, cpus: number, serving: ReadonlySet<number>): ClockWindow {
  const ns = durationMs * 1_000_000;
  return {
    ...{ kind: 'window', index: 1, startNs: 1, endNs: 1 + ns, quantumNs: 20, rounds: 1, slices: 1 },
    vcpus: Array.from({ length: cpus }, (_, cpu) =>
      serving.has(cpu)
        ? { ...busy, executedNs: ns * 0.75, spunNs: ns * 0.25, kernelInstructions: 1_000, lineTransfers: 100 }
        : busy,
    ),
    ...{ lines: [], sites: [], uncountedTransfers: 0 },
    host: { wallSeconds: 1, cpuSeconds: 1, idleMoves: 0 },
  };
}
