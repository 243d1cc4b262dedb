import { FastioError } from '../../vm/errors.js';
import type { Block, Plan } from '../plan/planner.js';
import type { LoadedSuite } from '../schema/load.js';
import type { ClockName } from '../schema/suite.js';
import { bootBench, guestFingerprint, logsOf } from './guest.js';
import type { Bench } from './guest.js';
import type { MeasureOptions } from './measure.js';
import { measureRun } from './measure.js';
import type { Artifacts, SuiteOptions } from './options.js';
import type { RunRecord } from './record.js';
import { failureLines, recordOf } from './record.js';
import type { Store } from './store.js';

/** Fresh guests a block may use up before the rest of its runs is given up. */
const maxBootsPerBlock = 4;

export interface RunnerOptions {
  readonly options: SuiteOptions & { readonly clock: ClockName; readonly costs: string };
  readonly plan: Plan;
  readonly suites: readonly LoadedSuite[];
  /** By suite. */
  readonly artifacts: ReadonlyMap<string, Artifacts>;
  readonly seed: number;
  readonly store: Store;
  /** Called with what guests are; `index` is that of the run it was seen at. */
  readonly onGuest: (facts: GuestFacts, index: number) => void;
  /** Called after each run, one at a time. */
  readonly onRun: (record: RunRecord, started: RunStarted) => Promise<void>;
  readonly onStart: (started: RunStarted) => void;
}

/** What a guest ran on, for the record. */
export interface GuestFacts {
  readonly accel: string;
  readonly accelReason: string;
  /** What the simulation charges, where time is virtual. */
  readonly costs: { readonly profile: string; readonly description: string } | null;
  readonly fingerprint: Readonly<Record<string, string | number>>;
}

export interface RunStarted {
  readonly run: Block['runs'][number];
  /** From 1, in the order of the plan. */
  readonly index: number;
  readonly total: number;
}

/**
 * Carries out a plan by the wall clock: each block in a guest of its own, one after the other, finished runs left alone.
 * A run that fails is recorded and the rest goes on; a guest whose kernel complained is replaced.
 * @throws FastioError when nothing more can be measured: interrupted, disk full, no guest can be booted here.
 */
export async function runBlocks(runner: RunnerOptions): Promise<void> {
  const { plan, options, store } = runner;
  const shared = { ...runner, numbered: numberRuns(plan), first: { seen: false } };
  for (const block of plan.blocks) {
    if (block.runs.every(({ id }) => store.records.has(id))) continue;
    options.signal.throwIfAborted();
    await runBlock(block, shared);
  }
}

interface Shared extends RunnerOptions {
  readonly numbered: ReadonlyMap<string, RunStarted>;
  readonly first: { seen: boolean };
}

async function runBlock(block: Block, shared: Shared): Promise<void> {
  const { suites, store, options } = shared;
  const loaded = suites.find(({ name }) => name === block.suite);
  const artifacts = shared.artifacts.get(block.suite);
  if (loaded === undefined || artifacts === undefined) throw new RangeError(`no suite ${block.suite}`);
  for (let attempt = 0; attempt < maxBootsPerBlock; attempt += 1) {
    const left = block.runs.filter(({ id }) => !store.records.has(id));
    if (left.length === 0) return;
    options.signal.throwIfAborted();
    const name = `bench-${process.pid}`;
    let bench: Bench;
    try {
      bench = await bootBench(name, block, loaded, artifacts, options);
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
    for (const run of left) {
      options.signal.throwIfAborted();
      const started = startedOf(run, shared.numbered);
      if (!shared.first.seen) {
        shared.first.seen = true;
        const { accel, accelReason } = guest.vm.info;
        const fingerprint = await guestFingerprint(guest, options.signal);
        shared.onGuest({ accel, accelReason, costs: null, fingerprint }, started.index);
      }
      shared.onStart(started);
      const { record, log, spoilt } = await measureRun(guest, run, block.runs.indexOf(run), measure);
      await store.saveRunLog(run.id, log);
      await store.saveRecord(record);
      await shared.onRun(record, started);
      if (spoilt) return;
    }
  } finally {
    await store.saveLogs(block.id, await logsOf(guest));
  }
}

/** Failures of a guest, which a fresh one may not have; all others end the run. */
export function isGuestTrouble(error: unknown): error is FastioError {
  return (
    error instanceof FastioError &&
    (error.code.startsWith('GUEST_') || error.code === 'QEMU_GONE' || error.code === 'TIMEOUT')
  );
}

async function giveUp(left: Block['runs'], error: FastioError, shared: Shared): Promise<void> {
  for (const run of left) {
    const record = recordOf(run, {
      failure: guestFailure(error),
      windows: [],
      accel: '',
      startedAt: new Date(),
      seconds: 0,
    });
    await shared.store.saveRecord(record);
    await shared.onRun(record, startedOf(run, shared.numbered));
  }
}

/** What a record says of a guest that could not be used. */
export function guestFailure({ code, message, detail }: FastioError): NonNullable<RunRecord['failure']> {
  return { code, message, kernel: code !== 'GUEST_COMMAND', log: detail.slice(-failureLines) };
}

export function startedOf(run: Block['runs'][number], numbered: ReadonlyMap<string, RunStarted>): RunStarted {
  const started = numbered.get(run.id);
  if (started === undefined) throw new RangeError(`${run.id} is not in the plan`);
  return started;
}

/** Every run of a plan with its place in it. */
export function numberRuns(plan: Plan): ReadonlyMap<string, RunStarted> {
  const runs = plan.blocks.flatMap((block) => block.runs);
  return new Map(runs.map((run, at) => [run.id, { run, index: at + 1, total: runs.length }]));
}
