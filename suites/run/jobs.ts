import { mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseKallsyms } from '../../vm/clock/lines.js';
import type { ClockWindow } from '../../vm/clock/log.js';
import { describeProfile } from '../../vm/clock/profile.js';
import { FastioError } from '../../vm/errors.js';
import type { Report } from '../../vm/progress.js';
import type { Block } from '../plan/planner.js';
import { lanesOf } from '../plan/lanes.js';
import { jobSeed } from '../plan/planner.js';
import { pointText } from '../plan/points.js';
import type { LoadedSuite } from '../schema/load.js';
import { parseFingerprint, specOf } from './guest.js';
import { confName, jobOf, outcomeOf } from './job.js';
import type { MeasuredJob } from './options.js';
import type { RunRecord } from './record.js';
import { recordOf } from './record.js';
import type { GuestFacts, RunStarted, RunnerOptions } from './runner.js';
import { guestFailure, isGuestTrouble, numberRuns, startedOf } from './runner.js';

type Run = Block['runs'][number];

/**
 * Carries out a plan under the virtual clock: each run is a job for a guest of its own, decided before it boots, and
 * several guests run side by side, since none can disturb another's figures. Finished runs are left alone; one that fails
 * is recorded and the rest goes on.
 * @throws FastioError when nothing more can be measured: interrupted, disk full, no guest can be booted here.
 */
export async function runJobs(runner: RunnerOptions): Promise<void> {
  const { plan, options, store, suites } = runner;
  const waiting = plan.blocks.flatMap((block) =>
    block.runs.filter(({ id }) => !store.records.has(id)).map((run) => ({ block, run })),
  );
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
      await runOne(next.run, next.block, `bench-${process.pid}-${number}`, shared);
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

async function runOne(run: Run, block: Block, name: string, shared: Shared): Promise<void> {
  const { options, store, suites, seed, inTurn } = shared;
  const loaded = suites.find((suite) => suite.name === block.suite);
  if (loaded === undefined) throw new RangeError(`no suite ${block.suite}`);
  const started = startedOf(run, shared.numbered);
  const { signal, costs } = options;
  // That a guest boots, for each run anew, tells nobody anything.
  const report: Report = (event) => {
    if (event.kind !== 'stage') options.report(event);
  };
  shared.onStart(started);
  const startedAt = new Date();
  const begun = performance.now();
  const commands = { ...options, loaded, seed };
  let result: MeasuredJob | FastioError;
  try {
    const { profileLines: profile } = options;
    const job = { groups: jobOf(run, commands), files: join(shared.files, block.suite), symbols: profile };
    const clock = { seed: jobSeed(block, run), costProfile: costs, profile };
    result = await options.runJob(specOf(loaded, options), job, clock, { name, report, signal });
  } catch (error) {
    signal.throwIfAborted();
    if (!isGuestTrouble(error)) throw error;
    result = error;
  }
  const seconds = (performance.now() - begun) / 1000;
  const outcome =
    result instanceof FastioError
      ? { failure: guestFailure(result), windows: [], log: result.detail.map((line) => `${line}\n`).join('') }
      : outcomeOf(run, result, commands);
  const { failure, windows, log } = outcome;
  const simulated = result instanceof FastioError ? null : costOf(result);
  const record = recordOf(run, {
    failure,
    windows: [...windows],
    accel: 'tcg',
    startedAt,
    seconds,
    simulated,
  });
  await inTurn(async () => {
    if (!(result instanceof FastioError)) shared.onGuest(factsOf(result, loaded, shared), started.index);
    await store.saveRunLog(run.id, log);
    await store.saveLogs(run.id, logsOf(result));
    if (options.profileLines && !(result instanceof FastioError)) {
      await store.saveProfile(run.id, profileOf(run, loaded, result, record));
    }
    await store.saveRecord(record);
    await shared.onRun(record, started);
  });
}

function costOf({ clock }: MeasuredJob): RunRecord['host']['windows'] {
  const sum = (of: (window: ClockWindow) => number): number =>
    clock.windows.reduce((total, window) => total + of(window), 0);
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
function profileOf(run: Run, { suite }: LoadedSuite, job: MeasuredJob, record: RunRecord): string {
  const [window] = job.clock.windows;
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
  const text = describeProfile(window, parseKallsyms(job.kallsyms), { groups, requests });
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
