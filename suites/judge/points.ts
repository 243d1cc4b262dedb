import type { Condition, PlannedPoint } from '../plan/points.js';
import { seededRandom } from '../plan/random.js';
import type { RunRecord } from '../run/record.js';
import type { Noise, Point, Sample, Summary } from '../schema/results.js';
import type { ClockName } from '../schema/suite.js';
import { medianFigure, ratioFigure } from '../statistics/bootstrap.js';
import { latencyFigures, placed, samplesOf } from './samples.js';

/** What a summary needs to know of the run it belongs to. */
export interface Setting {
  readonly clock: ClockName;
  readonly seed: number;
  /** Server starts each point gets; below that it is pending. */
  readonly runsPerPoint: number;
  readonly titleOf: (server: string) => string;
  /** Why nothing of this run may be set beside published figures; empty when it may. */
  readonly incomparable: readonly string[];
}

/** A generator thread busier than this may have been what was measured. */
const generatorLimit = 0.9;
/** Share of CPU time that a hypervisor may take away before a window says more about it than about the server. */
const stealLimit = 0.02;

/** The records of a condition by point, those of the baseline's second measurement apart. */
export interface ConditionRecords {
  readonly main: ReadonlyMap<string, readonly RunRecord[]>;
  readonly aa: readonly RunRecord[];
}

/** Sorts records into their condition. */
export function recordsOf(condition: Condition, records: readonly RunRecord[]): ConditionRecords {
  const ids = new Set(condition.points.map(({ id }) => id));
  const mine = records.filter(({ point }) => ids.has(point));
  const main = new Map(
    condition.points.map(({ id }) => [
      id,
      mine.filter((record) => record.replica === 'main' && record.point === id),
    ]),
  );
  return { main, aa: mine.filter(({ replica }) => replica === 'aa') };
}

/** Points worked out before, with what they were worked out from. */
export type PointMemory = Map<string, { readonly key: string; readonly point: Point }>;

/** The points of a condition with their figures, and the noise band between two measurements of its baseline. */
export function judgeCondition(
  condition: Condition,
  records: ConditionRecords,
  setting: Setting,
  memory: PointMemory = new Map(),
): { readonly points: readonly Point[]; readonly noise: readonly Noise[] } {
  const baseline = condition.points.find((point) => point.baseline);
  const baselineRecords = baseline === undefined ? [] : (records.main.get(baseline.id) ?? []);
  const base = samplesOf(baselineRecords.filter(isOk));
  const points = condition.points.map((planned) => {
    const own = records.main.get(planned.id) ?? [];
    const key = JSON.stringify([setting.incomparable, ...[own, baselineRecords].map(signature)]);
    const known = memory.get(planned.id);
    if (known?.key === key) return known.point;
    const point = pointOf(planned, own, base, setting);
    memory.set(planned.id, { key, point });
    return point;
  });
  const again = samplesOf(records.aa.filter(isOk));
  const ratio = ratioFigure(
    placed(again, rps),
    placed(base, rps),
    seededRandom(`${setting.seed}/aa/${condition.suite}/${condition.id}`),
    true,
  );
  if (ratio === undefined || baseline === undefined) return { points, noise: [] };
  const { connections, messageBytes, rate, request } = baseline;
  const place = { connections, messageBytes, rate, ...(request === undefined ? {} : { request }) };
  return { points, noise: [{ suite: condition.suite, ...place, ratio }] };
}

const signature = (records: readonly RunRecord[]): unknown => records.map(({ id, status }) => [id, status]);
const isOk = (record: RunRecord): boolean => record.status === 'ok';
const rps = (sample: Sample): number => sample.requestsPerSecond;
const perCpu = (sample: Sample): number | null => sample.requestsPerSecondPerCpu;

function pointOf(
  planned: PlannedPoint,
  records: readonly RunRecord[],
  base: readonly Sample[],
  setting: Setting,
): Point {
  const { placement, id, suite, server, workers, connections, messageBytes, rate, request, baseline } =
    planned;
  const ok = records.filter(isOk);
  const samples = samplesOf(ok);
  const failed = records.filter(({ status }) => status === 'failed');
  const invalid = invalidReasons(samples, ok);
  const failures = failed.map(({ failure }) => failure?.message ?? 'failed');
  const flags = flagsOf(samples, ok, setting);
  const status = statusOf(failed.length > 0, samples.length, invalid.length > 0);
  return {
    id,
    suite,
    server,
    title: setting.titleOf(server),
    workers,
    connections,
    messageBytes,
    rate,
    ...(request === undefined ? {} : { request }),
    loop: rate === null ? 'closed' : 'open',
    clock: setting.clock,
    accel: records[0]?.accel ?? '',
    baseline,
    serverCpus: placement.serverCpus.length,
    loadThreads: placement.loadCpus.length,
    status,
    reasons: [...new Set([...failures, ...invalid, ...flags])],
    comparable: setting.incomparable.length === 0 && !placement.oversubscribed && status === 'ok',
    samples: [...samples],
    summary: samples.length === 0 ? null : summaryOf(id, samples, ok, base, setting),
    errors: samples.reduce((sum, { errors }) => sum + errors, 0),
  };
}

function statusOf(failed: boolean, samples: number, invalid: boolean): Point['status'] {
  if (failed) return 'failed';
  if (samples === 0) return 'pending';
  return invalid ? 'invalid' : 'ok';
}

/** Rules fixed beforehand by which a measured point does not count. */
function invalidReasons(samples: readonly Sample[], records: readonly RunRecord[]): readonly string[] {
  const reasons: string[] = [];
  const busiest = Math.max(0, ...samples.map(({ generatorBusy }) => generatorBusy ?? 0));
  if (busiest > generatorLimit) {
    const percent = (busiest * 100).toFixed(0);
    reasons.push(
      `the load generator was the bottleneck: a thread of it was busy ${percent} % of the time (limit ${generatorLimit * 100} %)`,
    );
  }
  const errors = samples.reduce((sum, sample) => sum + sample.errors, 0);
  if (errors > 0) reasons.push(`${errors} requests failed`);
  const windows = records.flatMap((record) => record.windows);
  const steal = Math.max(0, ...windows.map(({ stealShare }) => stealShare ?? 0));
  if (steal > stealLimit) {
    reasons.push(
      `the hypervisor took ${(steal * 100).toFixed(1)} % of the CPU time away (limit ${stealLimit * 100} %)`,
    );
  }
  if (records.some(({ oversubscribed }) => oversubscribed)) {
    reasons.push('more threads than CPUs: run with --force');
  }
  return reasons;
}

/** Things worth knowing that do not take the figures' validity away. */
function flagsOf(
  samples: readonly Sample[],
  records: readonly RunRecord[],
  setting: Setting,
): readonly string[] {
  const flags: string[] = [];
  const unsteady = samples.filter(({ steady }) => !steady).length;
  if (unsteady > 0) flags.push(`${unsteady} of ${samples.length} windows never became steady`);
  const outliers = samples.filter(({ outlier }) => outlier).length;
  if (outliers > 0) flags.push(`${outliers} of ${samples.length} samples are outliers (kept)`);
  const windows = records.flatMap((record) => record.windows);
  const overloaded = windows.filter(({ rateKept }) => rateKept === false).length;
  if (overloaded > 0)
    flags.push(`saturated: the offered rate was not carried in ${overloaded} of ${windows.length} windows`);
  const runs = records.length;
  if (samples.length > 0 && runs < setting.runsPerPoint) {
    flags.push(`${runs} of ${setting.runsPerPoint} server starts measured so far`);
  }
  return flags;
}

function summaryOf(
  id: string,
  samples: readonly Sample[],
  records: readonly RunRecord[],
  base: readonly Sample[],
  { seed }: Setting,
): Summary | null {
  const random = (metric: string): ReturnType<typeof seededRandom> => seededRandom(`${seed}/${id}/${metric}`);
  const requestsPerSecond = medianFigure(placed(samples, rps), random('rps'));
  if (requestsPerSecond === undefined) return null;
  return {
    requestsPerSecond,
    requestsPerSecondPerCpu: medianFigure(placed(samples, perCpu), random('perCpu')) ?? null,
    ratioToBaseline: ratioFigure(placed(samples, rps), placed(base, rps), random('ratio'), true) ?? null,
    perCpuRatioToBaseline:
      ratioFigure(placed(samples, perCpu), placed(base, perCpu), random('perCpuRatio'), true) ?? null,
    ...latencyFigures(records, random('latency')),
    instructionsPerRequest:
      medianFigure(
        placed(samples, ({ instructionsPerRequest }) => instructionsPerRequest),
        random('instructions'),
      ) ?? null,
  };
}
