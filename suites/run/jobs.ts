import { mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { settleOffsetNs } from '../../vm/clock/clock.js';
import { parseKallsyms } from '../../vm/clock/lines.js';
import type { ClockWindow } from '../../vm/clock/log.js';
import { describeProfile } from '../../vm/clock/profile.js';
import { FastioError } from '../../vm/errors.js';
import type { Report } from '../../vm/progress.js';
import type { Boot } from '../plan/boots.js';
import { bootsLeft } from '../plan/boots.js';
import { lanesOf } from '../plan/lanes.js';
import type { Block, PlannedRun } from '../plan/planner.js';
import { jobSeed } from '../plan/planner.js';
import { pointText } from '../plan/points.js';
import type { LoadedSuite } from '../schema/load.js';
import { parseFingerprint, specOf } from './guest.js';
import type { CommandOptions } from './commands.js';
import type { JobOutcome, PlacedRun } from './job.js';
import { confName, jobOf, outcomeOf, placeOf, windowsOf } from './job.js';
import type { MeasuredJob } from './options.js';
import type { RunRecord } from './record.js';
import { recordOf } from './record.js';
import type { GuestFacts, RunStarted, RunnerOptions } from './runner.js';
import { guestFailure, isGuestTrouble, numberRuns, startedOf } from './runner.js';

/**
 * Carries out a plan under the virtual clock: runs share guests, whose jobs are decided before they boot, and several
 * guests run side by side, since none can disturb another's figures. Finished boots are left alone; a run that fails is
 * recorded and the rest goes on.
 * @throws FastioError when nothing more can be measured: interrupted, disk full, no guest can be booted here.
 */
export async function runJobs(runner: RunnerOptions): Promise<void> {
  const { plan, options, store, suites } = runner;
  const waiting = [...bootsLeft(plan, 'virtual', (id) => store.records.get(id)?.host)];
  // One failing lane stops the others: they would measure for nothing.
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  await using files = await filesOf(runner);
  const shared: Shared = {
    ...runner,
    options: { ...options, signal },
    numbered: numberRuns(plan),
    inTurn: serialised(),
    files: files.directory,
  };
  const lane = async (number: number): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      signal.throwIfAborted();
      await runBoot(next, `bench-${process.pid}-${number}`, shared);
    }
  };
  const lanes = Array.from({ length: lanesOf(suites, waiting.length, options.jobs) }, (_, number) =>
    lane(number).catch((error: unknown) => {
      stop.abort(error);
      throw error;
    }),
  );
  const outcomes = await Promise.allSettled(lanes);
  options.signal.throwIfAborted();
  if (outcomes.some(({ status }) => status === 'rejected')) throw stop.signal.reason;
}

interface Shared extends RunnerOptions {
  readonly numbered: ReadonlyMap<string, RunStarted>;
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  /** Host directory with what the guests of each suite get. */
  readonly files: string;
}

/** For each suite a directory with its artifacts and fastio.conf. */
async function filesOf({
  artifacts,
  options,
}: RunnerOptions): Promise<{ readonly directory: string } & AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), 'fastio-files-'));
  for (const [suite, { directory: from }] of artifacts) {
    const to = join(directory, suite);
    await mkdir(to);
    for (const name of await readdir(from)) await symlink(join(from, name), join(to, name));
    await symlink(resolve(options.confFile), join(to, confName));
  }
  return { directory, [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
}

/** Measures runs in one guest; when one of them fails, each again in a guest of its own, so that none suffers from another. */
async function runBoot(boot: Boot, name: string, shared: Shared): Promise<void> {
  const { block, runs, alone } = boot;
  const { options, suites, seed } = shared;
  const loaded = suites.find((suite) => suite.name === block.suite);
  if (loaded === undefined) throw new RangeError(`no suite ${block.suite}`);
  const commands = { ...options, loaded, seed };
  const placed = placedRuns(boot);
  const startedAt = new Date();
  const begun = performance.now();
  const result = await measure(block, placed, name, commands, shared);
  const seconds = (performance.now() - begun) / 1000 / runs.length;
  const outcomes = placed.map((one) =>
    result instanceof FastioError
      ? { failure: guestFailure(result), windows: [], log: result.detail.map((line) => `${line}\n`).join('') }
      : outcomeOf(one, result, commands),
  );
  const failed = outcomes.find(({ failure }) => failure !== null);
  if (failed !== undefined && runs.length > 1) {
    options.report({
      kind: 'warning',
      message: `one of ${runs.length} runs in a guest failed (${failed.failure?.message ?? ''}); each is measured again in one of its own`,
      remedy: '',
    });
    for (const run of runs) {
      options.signal.throwIfAborted();
      await runBoot({ block, runs: [run], alone: true }, name, shared);
    }
    return;
  }
  await shared.inTurn(async () => {
    await shared.store.saveLogs(runs.map(({ id }) => id).join(' '), logsOf(result));
    for (const [place, outcome] of outcomes.entries()) {
      const one = placed[place];
      if (one === undefined) throw new RangeError(`no run at ${place}`);
      await save(one, outcome, result, { loaded, startedAt, seconds, alone }, shared);
    }
  });
}

/** The runs of a boot with what a job has to know of each. */
export function placedRuns({ block, runs }: Boot): readonly PlacedRun[] {
  return runs.map((run, place) => ({ run, place, settleOffsetNs: settleOffsetNs(jobSeed(block, run)) }));
}

async function measure(
  block: Block,
  placed: readonly PlacedRun[],
  name: string,
  commands: CommandOptions,
  { options, files, onStart, numbered }: Shared,
): Promise<MeasuredJob | FastioError> {
  const { signal, costs, profileLines: profile } = options;
  const [first] = placed;
  if (first === undefined) throw new RangeError('a boot without a run');
  // That a guest boots, for each few runs anew, tells nobody anything.
  const report: Report = (event) => {
    if (event.kind !== 'stage') options.report(event);
  };
  const begun = new Set<number>();
  const onStep = (group: string): void => {
    const place = placeOf(group);
    const run = placed[place ?? -1]?.run;
    if (place === undefined || run === undefined || begun.has(place)) return;
    begun.add(place);
    onStart(startedOf(run, numbered));
  };
  const job = { groups: jobOf(placed, commands), files: join(files, block.suite), symbols: profile };
  const clock = { seed: jobSeed(block, first.run), costProfile: costs, profile };
  try {
    // A deadline that only a slow host misses would have runs measured alone, and so change their figures.
    const watch = { name, report, signal, onStep, patience: placed.length };
    return await options.runJob(specOf(commands.loaded, options), job, clock, watch);
  } catch (error) {
    signal.throwIfAborted();
    if (!isGuestTrouble(error)) throw error;
    return error;
  }
}

/** Keeps what came of one run. */
async function save(
  { run, place }: PlacedRun,
  { failure, windows, log }: JobOutcome,
  result: MeasuredJob | FastioError,
  about: {
    readonly loaded: LoadedSuite;
    readonly startedAt: Date;
    readonly seconds: number;
    readonly alone: boolean;
  },
  shared: Shared,
): Promise<void> {
  const { options, store, numbered } = shared;
  const { loaded, ...measured } = about;
  const started = startedOf(run, numbered);
  const counted =
    result instanceof FastioError ? [] : windowsOf(place, result, { loaded, profile: options.profile });
  const simulated = result instanceof FastioError ? null : costOf(counted);
  const end = { failure, windows: [...windows], accel: 'tcg', ...measured, simulated };
  const record = recordOf(run, end);
  if (!(result instanceof FastioError)) shared.onGuest(factsOf(result, loaded, shared), started.index);
  await store.saveRunLog(run.id, log);
  if (options.profileLines && !(result instanceof FastioError)) {
    await store.saveProfile(run.id, profileOf(run, loaded, counted, result.kallsyms, record));
  }
  await store.saveRecord(record);
  await shared.onRun(record, started);
}

function costOf(windows: readonly ClockWindow[]): RunRecord['host']['windows'] {
  const sum = (of: (window: ClockWindow) => number): number =>
    windows.reduce((total, window) => total + of(window), 0);
  return {
    virtualSeconds: sum(({ startNs, endNs }) => endNs - startNs) / 1e9,
    wallSeconds: sum(({ host }) => host.wallSeconds),
    cpuSeconds: sum(({ host }) => host.cpuSeconds),
  };
}

function factsOf(
  { machine, steps, kernelRelease, qemuVersion }: MeasuredJob,
  { suite }: LoadedSuite,
  { options }: Shared,
): GuestFacts {
  const about = steps.get('guest.about')?.stdout ?? '';
  const { cpus, memoryMiB } = suite.vm;
  return {
    accel: 'tcg',
    accelReason: 'the virtual clock simulates every instruction',
    costs: { profile: machine.costProfile, description: machine.description },
    fingerprint: {
      arch: options.arch,
      kernelRelease,
      cpus,
      memoryMiB,
      qemuVersion,
      ...parseFingerprint(about),
    },
  };
}

/** Where the first window's time and line transfers went. */
function profileOf(
  run: PlannedRun,
  { suite }: LoadedSuite,
  [window]: readonly ClockWindow[],
  kallsyms: string,
  record: RunRecord,
): string {
  const [measured] = record.windows;
  if (window === undefined || measured === undefined) return 'there was no window\n';
  const { serverCpus, loadCpus } = run.point.placement;
  const { extra } = suite.servers[run.point.server]?.threads ?? { extra: 0 };
  const groups = [
    // Servers pin the application's own threads first.
    { title: 'application', vcpus: serverCpus.slice(0, extra) },
    { title: extra === 0 ? 'server' : 'workers', vcpus: serverCpus.slice(extra) },
    { title: 'load generator', vcpus: loadCpus },
  ].filter(({ vcpus }) => vcpus.length > 0);
  // The marks enclose the generator's window and a little more, in which requests were served, too.
  const requests = (measured.requests * (window.endNs - window.startNs)) / measured.durationNs;
  const text = describeProfile(window, parseKallsyms(kallsyms), { groups, requests });
  return `${pointText(run.point)}, ${measured.requests} requests\n${text}\n`;
}

function logsOf(result: MeasuredJob | FastioError): { readonly kernel: string; readonly console: string } {
  if (result instanceof FastioError) {
    return { kernel: '(the guest died; see console.log)', console: result.detail.join('\n') };
  }
  return { kernel: result.kernelLog.join('\n'), console: result.console };
}

/** A queue of one: work handed to it runs in order, never two at once. */
function serialised(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const next = last.then(work, work);
    last = next.catch(() => undefined);
    return next;
  };
}
