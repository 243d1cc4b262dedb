import type { Job, JobResult } from '../../vm/clock/job.js';
import type { ClockWindow } from '../../vm/clock/log.js';
import { busyNs } from '../../vm/clock/log.js';
import type { JobGroup, JobStep } from '../../vm/clock/steps.js';
import { FastioError } from '../../vm/errors.js';
import type { PlannedRun } from '../plan/planner.js';
import { pointText, windowOf } from '../plan/points.js';
import type { LoadedSuite } from '../schema/load.js';
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
/** The port of a guest's first server; each has one of its own, and meets no connections of the one before it. */
const firstPort = 20_000;

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

/** A run in its place among those that share a guest. */
export interface PlacedRun {
  readonly run: PlannedRun;
  /** From 0. */
  readonly place: number;
  /** How far from a full second its windows begin. */
  readonly settleOffsetNs: number;
}

/** The group of a job in which the run at a place is measured. */
const groupOf = (place: number): string => `run-${place}`;

/** The place of the run that a job's group measures; undefined for the others. */
export function placeOf(group: string): number | undefined {
  const [, place] = /^run-(\d+)$/.exec(group) ?? [];
  return place === undefined ? undefined : Number(place);
}

/** Runs, one after the other, as work for a guest that nobody talks to until it is over. */
export function jobOf(runs: readonly PlacedRun[], options: CommandOptions): Job['groups'] {
  // Whatever became of the measurements, and after them.
  const about: JobStep = {
    kind: 'run',
    id: 'about',
    argv: ['sh', '-c', fingerprintScript],
    timeoutMs: readyMs,
  };
  const groups = runs.map((placed) => measurement(placed, modulesBefore(runs, placed, options), options));
  return [...groups, { id: 'guest', steps: [about] }];
}

function measurement(
  placed: PlacedRun,
  loadedBefore: ReadonlySet<string>,
  options: CommandOptions,
): JobGroup {
  const { run, place, settleOffsetNs } = placed;
  return {
    id: groupOf(place),
    steps: [
      ...moduleSteps(run, loadedBefore, options),
      // Before the server, which may be one that spins: a second of that is dear.
      { kind: 'settle', offsetNs: settleOffsetNs },
      serverStep(placed, options),
      ...loads(placed, options),
      { kind: 'stop', id: 'server', signal: 'TERM', timeoutMs: stopMs },
    ],
  };
}

/** Modules stay once they are loaded. */
function modulesBefore(
  runs: readonly PlacedRun[],
  { place }: PlacedRun,
  { loaded }: CommandOptions,
): ReadonlySet<string> {
  const names = runs.filter((other) => other.place < place).map(({ run }) => serverOf(run, loaded).module);
  return new Set(names.filter((name) => name !== undefined));
}

function moduleSteps(
  run: PlannedRun,
  loadedBefore: ReadonlySet<string>,
  { loaded }: CommandOptions,
): readonly JobStep[] {
  const { module } = serverOf(run, loaded);
  if (module === undefined || loadedBefore.has(module)) return [];
  const argv = ['insmod', `${filesRoot}/modules/${module}.ko`, ...moduleWords(loaded, module)];
  return [{ kind: 'run', id: 'insmod', argv, timeoutMs: readyMs }];
}

function serverStep({ run, place }: PlacedRun, { loaded }: CommandOptions): JobStep {
  const own = ownDirectory(run, loaded);
  const argv = serverWords(run, loaded, { port: firstPort + place, conf: `${filesRoot}/${confName}` });
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

function loads({ run, place }: PlacedRun, options: CommandOptions): readonly RunStep[] {
  const { loaded, profile, clock } = options;
  const { windowMs, warmupMs } = windowOf(loaded, profile, clock);
  const saysPort = serverOf(run, loaded).ready.includes('(?<port>');
  const port = saysPort ? '{port:server}' : firstPort + place;
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

type Result = Pick<JobResult, 'steps' | 'clock' | 'kernelReports'>;

/**
 * Reads what came out of a run's job; what went wrong with the run becomes its failure. That of another run in the same
 * guest may go unseen, and move what is counted in this one's windows.
 */
export function outcomeOf(placed: PlacedRun, result: Result, options: CommandOptions): JobOutcome {
  const windows: Measurement[] = [];
  const log: string[] = [];
  let failure: RunRecord['failure'] = null;
  try {
    check(placed, result, options, windows, log);
  } catch (error) {
    if (!(error instanceof FastioError)) throw error;
    const { code, message, detail } = error;
    failure = { code, message, kernel: false, log: (detail.length > 0 ? detail : log).slice(-failureLines) };
  }
  log.push('==> server', ...linesOf(result.steps.get(`${groupOf(placed.place)}.server`)));
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
  placed: PlacedRun,
  result: Result,
  options: CommandOptions,
  windows: Measurement[],
  log: string[],
): void {
  const { loaded } = options;
  const { run, place } = placed;
  const { steps } = result;
  const counted = windowsOf(place, result, options);
  const insmod = steps.get(`${groupOf(place)}.insmod`);
  if (insmod !== undefined && insmod.status !== 0) {
    const { module } = serverOf(run, loaded);
    throw new FastioError(
      'GUEST_COMMAND',
      `insmod ${module ?? ''}.ko: ${insmod.stderr.trim()}`,
      'Read the kernel’s last lines.',
    );
  }
  const server = steps.get(`${groupOf(place)}.server`);
  for (const [window, step] of loads(placed, options).entries()) {
    const load = steps.get(`${groupOf(place)}.${step.id}`);
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
    windows.push(withCounts(measured, run, counted[window], loaded));
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

/** What the clock counted in the windows of the run at a place; empty for a generator without hints. */
export function windowsOf(
  place: number,
  { clock }: Pick<JobResult, 'clock'>,
  { loaded, profile }: Pick<CommandOptions, 'loaded' | 'profile'>,
): readonly ClockWindow[] {
  const { windows } = profileOf(loaded.suite, profile);
  return clock.windows.slice(place * windows, (place + 1) * windows);
}

/**
 * What the clock counted replaces what the guest's scheduler did: exact, and with everything that ran on the server's
 * CPUs. Those are all that are neither the generator's nor the watcher's, so a thread that was not pinned counts, too.
 */
function withCounts(
  measured: Measurement,
  run: PlannedRun,
  window: ClockWindow | undefined,
  loaded: LoadedSuite,
): Measurement {
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
    applicationBusy: applicationBusy(run, window, loaded),
    instructions: Math.round(sum((vcpu) => vcpu.userInstructions + vcpu.kernelInstructions) * scale),
    lineTransfers: Math.round(sum((vcpu) => vcpu.lineTransfers) * scale),
  };
}

/** What the application's own CPUs executed, as a share of the window; null when others run there, too. */
function applicationBusy(run: PlannedRun, window: ClockWindow, loaded: LoadedSuite): number | null {
  const { serverCpus } = run.point.placement;
  const { extra, pinned } = serverOf(run, loaded).threads;
  const own = serverCpus.length === 1 ? serverCpus : pinned ? serverCpus.slice(0, extra) : [];
  if (own.length === 0) return null;
  const executedNs = own.reduce((total, cpu) => total + (window.vcpus[cpu]?.executedNs ?? 0), 0);
  return executedNs / (own.length * (window.endNs - window.startNs));
}
