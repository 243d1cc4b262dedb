import type { Job, JobResult } from '../../vm/clock/job.js';
import type { ClockWindow } from '../../vm/clock/log.js';
import { busyNs } from '../../vm/clock/log.js';
import type { JobGroup, JobStep } from '../../vm/clock/steps.js';
import { FastioError } from '../../vm/errors.js';
import type { PlannedRun } from '../plan/planner.js';
import { pointText, windowOf } from '../plan/points.js';
import { profileOf } from '../schema/suite.js';
import type { CommandOptions } from './commands.js';
import { loadWords, ownDirectory, serverOf, serverWords } from './commands.js';
import { fingerprintScript, moduleWords } from './guest.js';
import { loadFailed, loadLog, parseLoadOutput } from './load-output.js';
import { extendedRegex } from './ready.js';
import type { Measurement, RunRecord } from './record.js';
import { failureLines, kernelFailure } from './record.js';

/** Where a job's files stand in the guest; its conf is beside bin/, modules/ and servers/. */
const filesRoot = '/fastio-job/files';
export const confName = 'fastio.conf';
/** A job has the guest for itself, so every server can be given the same port. */
const givenPort = 20_000;

/*
 * All in ms of the guest's clock, which no host can slow down. A poller that hangs costs the host a second and more for
 * each 100 ms of it, so they are short.
 */
const readyMs = 2_000;
const stopMs = 2_000;
/** A generator connects, warms up, measures and reports; all but the measuring takes less than this. */
const loadOverheadMs = 2_000;
/** A reply that takes longer is lost. */
const replyMs = 500;

/** Exit status of a process that SIGTERM ended, as a shell reports it. */
const terminatedStatus = 128 + 15;

/** A run as work for a guest that nobody talks to until it is over. */
export function jobOf(run: PlannedRun, options: CommandOptions): Job['groups'] {
  const measure: JobGroup = {
    id: 'run',
    steps: [
      ...moduleSteps(run, options),
      // Before the server, which may be one that spins: a second of that is dear.
      { kind: 'settle' },
      serverStep(run, options),
      ...loads(run, options),
      { kind: 'stop', id: 'server', signal: 'TERM', timeoutMs: stopMs },
    ],
  };
  // Whatever became of the measurement, and after it.
  const about: JobStep = {
    kind: 'run',
    id: 'about',
    argv: ['sh', '-c', fingerprintScript],
    timeoutMs: readyMs,
  };
  return [measure, { id: 'guest', steps: [about] }];
}

function moduleSteps(run: PlannedRun, { loaded }: CommandOptions): readonly JobStep[] {
  const { module } = serverOf(run, loaded);
  if (module === undefined) return [];
  const argv = ['insmod', `${filesRoot}/modules/${module}.ko`, ...moduleWords(loaded, module)];
  return [{ kind: 'run', id: 'insmod', argv, timeoutMs: readyMs }];
}

function serverStep(run: PlannedRun, { loaded }: CommandOptions): JobStep {
  const own = ownDirectory(run, loaded);
  const argv = serverWords(run, loaded, { port: givenPort, conf: `${filesRoot}/${confName}` });
  const inOwn = ['sh', '-c', 'cd "$0" && exec "$@"', `${filesRoot}/${own ?? ''}`];
  const { text, portGroup } = extendedRegex(serverOf(run, loaded).ready, loaded, run.point.server);
  return {
    kind: 'start',
    id: 'server',
    argv: own === undefined ? argv : [...inOwn, ...argv],
    env: { FASTIO_PADDING: 'x'.repeat(run.environmentPadding) },
    ready: text,
    readyMs,
    ...(portGroup === undefined ? {} : { portGroup }),
  };
}

type RunStep = Extract<JobStep, { kind: 'run' }>;

function loads(run: PlannedRun, options: CommandOptions): readonly RunStep[] {
  const { loaded, profile, clock } = options;
  const { windowMs, warmupMs } = windowOf(loaded, profile, clock);
  const saysPort = serverOf(run, loaded).ready.includes('(?<port>');
  const port = saysPort ? '{port:server}' : givenPort;
  return Array.from({ length: profileOf(loaded.suite, profile).windows }, (_, window) => ({
    kind: 'run',
    id: `load-${window}`,
    argv: loadWords(run, window, options, { port, pid: '{pid:server}', timeoutMs: replyMs }),
    timeoutMs: windowMs + warmupMs + loadOverheadMs,
  }));
}

/** What a job says of its run. */
export interface JobOutcome {
  readonly failure: RunRecord['failure'];
  readonly windows: readonly Measurement[];
  /** Everything server and generator printed. */
  readonly log: string;
}

/** Reads what came out of a run's job; what went wrong with the run becomes its failure. */
export function outcomeOf(
  run: PlannedRun,
  result: Pick<JobResult, 'steps' | 'clock' | 'kernelReports'>,
  options: CommandOptions,
): JobOutcome {
  const windows: Measurement[] = [];
  const log: string[] = [];
  let failure: RunRecord['failure'] = null;
  try {
    check(run, result, options, windows, log);
  } catch (error) {
    if (!(error instanceof FastioError)) throw error;
    const { code, message, detail } = error;
    failure = { code, message, kernel: false, log: (detail.length > 0 ? detail : log).slice(-failureLines) };
  }
  log.push('==> server', ...linesOf(result.steps.get('run.server')));
  const [trouble] = result.kernelReports;
  if (trouble !== undefined) failure = kernelFailure(trouble);
  return { failure, windows, log: log.map((line) => `${line}\n`).join('') };
}

type Streams = { readonly stdout: string; readonly stderr: string } | undefined;

function linesOf(step: Streams): readonly string[] {
  return [step?.stdout ?? '', step?.stderr ?? ''].flatMap((text) =>
    text === '' ? [] : text.trimEnd().split('\n'),
  );
}

function check(
  run: PlannedRun,
  { steps, clock }: Pick<JobResult, 'steps' | 'clock'>,
  options: CommandOptions,
  windows: Measurement[],
  log: string[],
): void {
  const { loaded } = options;
  const insmod = steps.get('run.insmod');
  if (insmod !== undefined && insmod.status !== 0) {
    const { module } = serverOf(run, loaded);
    throw new FastioError(
      'GUEST_COMMAND',
      `insmod ${module ?? ''}.ko: ${insmod.stderr.trim()}`,
      'Read the kernel’s last lines.',
    );
  }
  const server = steps.get('run.server');
  for (const [window, step] of loads(run, options).entries()) {
    const load = steps.get(`run.${step.id}`);
    // Not begun: the server never served.
    if (load?.status === undefined) throw serverFailed(run, server);
    log.push(...loadLog(window, step.argv, load.stdout, load.stderr));
    if (load.status !== 0) {
      // A server that crashed is the reason; that the generator lost its connections is the consequence.
      throw server?.status === undefined
        ? loadFailed(load.status, load.stdout, load.stderr)
        : serverFailed(run, server);
    }
    const measured = parseLoadOutput(loaded.suite.load.format, load.stdout, {
      what: `${pointText(run.point)}, window ${window}`,
      serverCpus: run.point.placement.serverCpus,
    });
    windows.push(withCounts(measured, run, clock.windows[window]));
  }
  if (server?.status !== 0 && server?.status !== terminatedStatus) throw serverFailed(run, server);
}

function serverFailed(
  { point }: PlannedRun,
  server: (Streams & { readonly status: number | undefined }) | undefined,
): FastioError {
  const name = `${point.server} x${point.workers}`;
  const lines = linesOf(server);
  const own = lines.findLast((line) => line.startsWith('fastio-job: '))?.slice('fastio-job: '.length);
  const status = server?.status;
  const how =
    status === undefined
      ? (own ?? 'was not started')
      : status > 128
        ? `was ended by signal ${status - 128}`
        : `ended with status ${status}`;
  const last = lines.findLast((line) => line.trim() !== '' && !line.startsWith('fastio-job: '));
  const said = last === undefined ? '' : `: ${last.trim().slice(0, 300)}`;
  return new FastioError('GUEST_COMMAND', `${name} ${how}${said}`, 'Read its last lines.', {
    detail: lines.slice(-40),
  });
}

/**
 * What the clock counted replaces what the guest's scheduler did: exact, and with everything that ran on the server's
 * CPUs. Those are all that are neither the generator's nor the watcher's, so a thread that was not pinned counts, too.
 */
function withCounts(measured: Measurement, run: PlannedRun, window: ClockWindow | undefined): Measurement {
  const { loadCpus, oversubscribed } = run.point.placement;
  // A generator without hints, or one that shares the server's CPUs.
  if (window === undefined || oversubscribed) return measured;
  const apart = new Set([0, ...loadCpus]);
  const counts = window.vcpus.filter((_, cpu) => !apart.has(cpu));
  const sum = (of: (vcpu: ClockWindow['vcpus'][number]) => number): number =>
    counts.reduce((total, vcpu) => total + of(vcpu), 0);
  // The marks enclose the window and a little more.
  const scale = measured.durationNs / (window.endNs - window.startNs);
  return {
    ...measured,
    serverCpuNs: sum(busyNs) * scale,
    softirqNs: 0,
    instructions: Math.round(sum((vcpu) => vcpu.userInstructions + vcpu.kernelInstructions) * scale),
    lineTransfers: Math.round(sum((vcpu) => vcpu.lineTransfers) * scale),
  };
}
