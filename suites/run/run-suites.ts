import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { defaultCostProfile } from '../../vm/clock/profiles.js';
import { readCostProfile } from '../../vm/clock/costs.js';
import { FastioError } from '../../vm/errors.js';
import type { Report } from '../../vm/progress.js';
import { resultsBuilder } from '../judge/results.js';
import type { Plan } from '../plan/planner.js';
import { planRuns } from '../plan/planner.js';
import { pointText } from '../plan/points.js';
import type { Claim } from '../schema/claims.js';
import { loadClaims, loadResults, loadSuite, claimsFile as ownClaimsFile } from '../schema/load.js';
import type { LoadedSuite } from '../schema/load.js';
import type { Results } from '../schema/results.js';
import type { ClockName } from '../schema/suite.js';
import { decideClock } from './clock.js';
import { headerOf, withGuest } from './header.js';
import { bootsLeft } from '../plan/boots.js';
import { jobOf } from './job.js';
import { placedRuns, runJobs } from './jobs.js';
import type { CommandOptions } from './commands.js';
import type { Artifacts, SuiteOptions } from './options.js';
import type { RunRecord } from './record.js';
import { rowOf } from './row.js';
import type { RunStarted } from './runner.js';
import { runBlocks } from './runner.js';
import type { Store } from './store.js';
import { copyInputs, hashFiles, openStore } from './store.js';

/** How a run ended. The command line makes exit codes of it: kernel 4, failed 1, else 0. */
export interface Outcome {
  readonly results: Results;
  readonly directory: string;
  /** The guest kernel warned, oopsed, hung or died in some run. */
  readonly kernel: boolean;
  /** Some run failed. */
  readonly failed: boolean;
}

/**
 * Measures suites: plans, boots, measures, judges. After every run `out/results.json` and the raw record are complete on
 * disk, so an interrupted run can be resumed and reported.
 * @throws FastioError INPUT_INVALID for faulty files or options, INTERRUPTED, and what the machinery cannot do.
 */
export async function runSuites(options: SuiteOptions): Promise<Outcome> {
  const suites: LoadedSuite[] = [];
  for (const name of options.suites) suites.push(await loadSuite(name));
  checkNames(suites);
  const { claims } = await loadClaims(options.claimsFile, suites);
  return runLoaded(suites, claims, options);
}

async function runLoaded(
  suites: readonly LoadedSuite[],
  claims: readonly Claim[],
  asked: SuiteOptions,
): Promise<Outcome> {
  const { report, signal } = asked;
  const lockHash = await hashFiles(asked.lockFiles);
  const earlier = asked.resume ? await loadResults(asked.out) : undefined;
  const seed = asked.seed ?? earlier?.seed ?? randomInt(1, 2 ** 31);
  const options = { ...asked, ...(await clockOf(suites, asked, earlier)) };
  const plan = planRuns(suites, { ...options, seed });
  if (options.clock === 'virtual') checkJobs(suites, plan, { ...options, seed });
  if (earlier !== undefined) checkResumes(options.out, earlier, plan, lockHash);
  const store = await openStore(options.out, options.resume);
  // What failed may have been mended in between.
  for (const [id, { status }] of store.records) if (status === 'failed') store.records.delete(id);
  announce(plan, store, options.clock, seed, report);
  if (plan.blocks.length === 0) {
    report({
      kind: 'warning',
      message: `this shard is empty: there are ${plan.totalBlocks} blocks`,
      remedy: '',
    });
  }

  const { arch, kernel, clock } = options;
  const artifacts = new Map<string, Artifacts>();
  for (const suite of suites) {
    artifacts.set(
      suite.name,
      await options.buildArtifacts({ arch, kernel, clock, suite }, { report, signal }),
    );
  }
  const sha256 = Object.assign(
    {},
    ...[...artifacts.values()].map((one) => one.sha256),
  ) as Artifacts['sha256'];
  const claimsPath = options.claimsFile ?? ownClaimsFile;
  await copyInputs(options.out, {
    files: [...options.lockFiles, options.confFile],
    suites,
    claims: claimsPath,
  });
  const begun = performance.now();
  let header = await headerOf(suites, options, { seed, lockHash, artifacts: sha256, earlier });
  const build = resultsBuilder();
  const current = (): Results => build({ header, plan, suites, claims }, [...store.records.values()]);
  const save = async (finishedAt: string | null = null): Promise<Results> => {
    const elapsedSeconds = (earlier?.host.elapsedSeconds ?? 0) + (performance.now() - begun) / 1000;
    header = { ...header, host: { ...header.host, finishedAt, elapsedSeconds } };
    const results = current();
    await store.saveResults(results);
    return results;
  };
  await save();
  let doneHere = 0;
  const toDo = bootsLeft(plan, clock, (id) => store.records.get(id)?.host).flatMap(({ runs }) => runs).length;
  const progress = (started: RunStarted): { elapsedSeconds: number; remainingSeconds: number } => {
    const elapsedSeconds = (performance.now() - begun) / 1000;
    const perRun = doneHere === 0 ? plan.estimateSeconds / started.total : elapsedSeconds / doneHere;
    return { elapsedSeconds, remainingSeconds: perRun * (toDo - doneHere) };
  };
  let seenAt = Infinity;
  await (options.clock === 'virtual' ? runJobs : runBlocks)({
    options,
    plan,
    suites,
    artifacts,
    seed,
    store,
    onStart: (started) => {
      const { index, total, run } = started;
      report({
        kind: 'run',
        phase: 'started',
        index,
        total,
        point: pointText(run.point),
        ...progress(started),
      });
    },
    onGuest: (facts, index) => {
      // The same one whichever guest is ready first.
      if (index > seenAt) return;
      seenAt = index;
      header = withGuest(header, facts);
    },
    onRun: async (record, started) => {
      doneHere += 1;
      const results = await save();
      reportRun(record, started, results, claims, progress(started), report);
    },
  });
  const results = await save(new Date().toISOString());
  return outcomeOf(results, options.out);
}

/** Settles which clock it is; a run that is resumed keeps its own. */
async function clockOf(
  suites: readonly LoadedSuite[],
  asked: SuiteOptions,
  earlier: Results | undefined,
): Promise<{ readonly clock: ClockName; readonly costs: string }> {
  const { costProfile, name } = earlier?.clock ?? {};
  const costs = asked.costs ?? costProfile ?? defaultCostProfile;
  if (asked.clock === 'auto' && name !== undefined) return { clock: name, costs };
  const { clock, because } = await decideClock(suites, asked);
  if (clock === 'wall' && asked.profileLines) {
    throw new FastioError(
      'USAGE',
      '--profile-lines: found the wall clock, expected the virtual one, which alone sees cache lines',
      'Add --clock virtual.',
    );
  }
  const detail = clock === 'virtual' ? `virtual, costs of ${costs}` : clock;
  asked.report({ kind: 'stage', name: 'clock', detail: `${detail}, because ${because}` });
  if (clock === 'virtual') await readCostProfile(costs);
  return { clock, costs };
}

/** Finds what cannot be a job before the first guest boots. */
function checkJobs(
  suites: readonly LoadedSuite[],
  plan: Plan,
  options: Omit<CommandOptions, 'loaded'>,
): void {
  for (const boot of bootsLeft(plan, 'virtual')) {
    const loaded = suites.find(({ name }) => name === boot.block.suite);
    if (loaded !== undefined) jobOf(placedRuns(boot), { ...options, loaded });
  }
}

/** What a run's results mean for whoever waits for it. */
export function outcomeOf(results: Results, directory: string): Outcome {
  return {
    results,
    directory,
    kernel: results.failures.some(({ kernel }) => kernel),
    failed: results.failures.length > 0,
  };
}

function checkNames(suites: readonly LoadedSuite[]): void {
  const seen = new Map<string, string>();
  for (const { name, file } of suites) {
    const other = seen.get(name);
    if (other !== undefined) {
      throw new FastioError(
        'USAGE',
        `found two suites called "${name}" (${other}, ${file}), expected different file names`,
        'Rename one, or run them apart.',
      );
    }
    seen.set(name, file);
  }
  if (suites.length === 0)
    throw new FastioError('USAGE', 'found no suite, expected at least one', 'Name one.');
}

function checkResumes(out: string, earlier: Results, plan: Plan, lockHash: string): void {
  const differs = [
    ...(earlier.planHash === plan.hash ? [] : ['the suites or the options']),
    ...(earlier.lockHash === lockHash ? [] : ['the lock files']),
  ];
  if (differs.length === 0) return;
  throw new FastioError(
    'INPUT_INVALID',
    `${join(out, 'results.json')}: found a run with other inputs, expected the same to resume it; ` +
      `${differs.join(' and ')} changed`,
    'Give the options of the first run, or another --out.',
  );
}

function announce(plan: Plan, store: Store, clock: ClockName, seed: number, report: Report): void {
  const runs = plan.blocks.flatMap((block) => block.runs);
  const boots = bootsLeft(plan, clock, (id) => store.records.get(id)?.host);
  const left = boots.flatMap((boot) => boot.runs).length;
  report({
    kind: 'plan',
    points: new Set(runs.map(({ point }) => point.id)).size,
    runs: left,
    boots: boots.length,
    seconds: runs.length === 0 ? 0 : (plan.estimateSeconds * left) / runs.length,
    seed,
  });
}

function reportRun(
  record: RunRecord,
  { index, total, run }: RunStarted,
  results: Results,
  claims: readonly Claim[],
  times: { elapsedSeconds: number; remainingSeconds: number },
  report: Report,
): void {
  const point = results.points.find(({ id }) => id === record.point);
  const phase = record.status === 'failed' ? 'failed' : point?.status === 'invalid' ? 'invalid' : 'done';
  const message = record.failure?.message ?? (phase === 'invalid' ? point?.reasons[0] : undefined);
  report({
    kind: 'run',
    phase,
    index,
    total,
    point: pointText(run.point),
    ...times,
    ...(message === undefined ? {} : { message }),
  });
  // The baseline's second measurement is not in its row.
  if (point !== undefined && record.replica === 'main') report(rowOf(point, claims));
}
