import { FastioError } from '../../vm/errors.js';
import type { Block, Plan } from '../plan/planner.js';
import { lanesOf } from '../plan/planner.js';
import type { LoadedSuite } from '../schema/load.js';
import { bootBench, logsOf } from './guest.js';
import type { Bench } from './guest.js';
import type { MeasureOptions } from './measure.js';
import { measureRun } from './measure.js';
import type { Artifacts, SuiteOptions } from './options.js';
import type { RunRecord } from './record.js';
import { recordVersion } from './record.js';
import type { Store } from './store.js';

/** Fresh guests a block may use up before the rest of its runs is given up. */
const maxBootsPerBlock = 4;

export interface RunnerOptions {
  readonly options: SuiteOptions;
  readonly plan: Plan;
  readonly suites: readonly LoadedSuite[];
  readonly artifacts: Artifacts;
  readonly seed: number;
  readonly store: Store;
  /** Called once, with the first guest that is up. */
  readonly onFirstBoot: (bench: Bench) => Promise<void>;
  /** Called after each run, one at a time. */
  readonly onRun: (record: RunRecord, started: RunStarted) => Promise<void>;
  readonly onStart: (started: RunStarted) => void;
}

export interface RunStarted {
  readonly run: Block['runs'][number];
  /** From 1, in the order of the plan. */
  readonly index: number;
  readonly total: number;
}

/**
 * Carries out a plan: each block in a guest of its own, finished runs left alone. A run that fails is recorded and the
 * rest goes on; a guest whose kernel complained is replaced.
 * @throws FastioError when nothing more can be measured: interrupted, disk full, no guest can be booted here.
 */
export async function runPlan(runner: RunnerOptions): Promise<void> {
  const { plan, options, store } = runner;
  const numbered = numberRuns(plan);
  const waiting = plan.blocks.filter(({ runs }) => runs.some(({ id }) => !store.records.has(id)));
  const sideBySide = lanesOf(options.clock, waiting.length);
  // One failing lane stops the others: they would measure for nothing.
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const inTurn = serialised();
  const shared = { ...runner, options: { ...options, signal }, numbered, inTurn, first: { seen: false } };
  const lane = async (number: number): Promise<void> => {
    for (let block = waiting.shift(); block !== undefined; block = waiting.shift()) {
      signal.throwIfAborted();
      await runBlock(block, number, shared);
    }
  };
  const lanes = Array.from({ length: sideBySide }, (_, number) =>
    lane(number).catch((error: unknown) => {
      stop.abort(error);
      throw error;
    }),
  );
  const outcomes = await Promise.allSettled(lanes);
  options.signal.throwIfAborted();
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw stop.signal.reason;
}

interface Shared extends RunnerOptions {
  readonly numbered: ReadonlyMap<string, RunStarted>;
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  readonly first: { seen: boolean };
}

async function runBlock(block: Block, lane: number, shared: Shared): Promise<void> {
  const { suites, store, options } = shared;
  const loaded = suites.find(({ name }) => name === block.suite);
  if (loaded === undefined) throw new RangeError(`no suite ${block.suite}`);
  for (let attempt = 0; attempt < maxBootsPerBlock; attempt += 1) {
    const left = block.runs.filter(({ id }) => !store.records.has(id));
    if (left.length === 0) return;
    options.signal.throwIfAborted();
    const name = `bench-${process.pid}-${lane}`;
    let bench: Bench;
    try {
      bench = await bootBench(name, block, loaded, shared.artifacts, options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (!isGuestTrouble(error) || attempt + 1 < maxBootsPerBlock) {
        if (!isGuestTrouble(error)) throw error;
        continue;
      }
      await giveUp(left, error, shared);
      return;
    }
    await measureIn(bench, block, loaded, left, shared);
  }
  const left = block.runs.filter(({ id }) => !store.records.has(id));
  const reason = new FastioError(
    'GUEST_WARNING',
    `${maxBootsPerBlock} guests of block ${block.id} were spoilt by the runs before`,
    'Mend those first.',
  );
  await giveUp(left, reason, shared);
}

/** Measures until all is done or the guest is spoilt. */
async function measureIn(
  bench: Bench,
  block: Block,
  loaded: LoadedSuite,
  left: Block['runs'],
  shared: Shared,
): Promise<void> {
  const { options, store, seed } = shared;
  await using guest = bench;
  const measure: MeasureOptions = { ...options, loaded, seed };
  try {
    if (!shared.first.seen) {
      shared.first.seen = true;
      await shared.onFirstBoot(guest);
    }
    for (const run of left) {
      options.signal.throwIfAborted();
      const started = shared.numbered.get(run.id);
      if (started === undefined) throw new RangeError(`${run.id} is not in the plan`);
      shared.onStart(started);
      const { record, log, spoilt } = await measureRun(guest, run, block.runs.indexOf(run), measure);
      await shared.inTurn(async () => {
        await store.saveRunLog(run.id, log);
        await store.saveRecord(record);
        await shared.onRun(record, started);
      });
      if (spoilt) return;
    }
  } finally {
    const logs = await logsOf(guest);
    await shared.inTurn(() => store.saveLogs(block.id, logs));
  }
}

/** Boot failures that a fresh attempt may not have; all others end the run. */
function isGuestTrouble(error: unknown): error is FastioError {
  return (
    error instanceof FastioError &&
    (error.code.startsWith('GUEST_') || error.code === 'QEMU_GONE' || error.code === 'TIMEOUT')
  );
}

async function giveUp(left: Block['runs'], error: FastioError, shared: Shared): Promise<void> {
  for (const run of left) {
    const started = shared.numbered.get(run.id);
    if (started === undefined) continue;
    const { code, message, detail } = error;
    const record: RunRecord = {
      version: recordVersion,
      id: run.id,
      point: run.point.id,
      replica: run.replica,
      boot: run.boot,
      process: run.process,
      status: 'failed',
      failure: { code, message, kernel: code !== 'GUEST_COMMAND', log: detail.slice(-60) },
      windows: [],
      accel: '',
      oversubscribed: run.point.placement.oversubscribed,
      host: { startedAt: new Date().toISOString(), seconds: 0 },
    };
    await shared.inTurn(async () => {
      await shared.store.saveRecord(record);
      await shared.onRun(record, started);
    });
  }
}

function numberRuns(plan: Plan): ReadonlyMap<string, RunStarted> {
  const runs = plan.blocks.flatMap((block) => block.runs);
  return new Map(runs.map((run, at) => [run.id, { run, index: at + 1, total: runs.length }]));
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
