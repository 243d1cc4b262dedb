import type { Claim } from '../schema/claims.js';
import type { Figure, Point } from '../schema/results.js';
import { mean } from '../statistics/bootstrap.js';
import { fitLine } from '../statistics/line.js';
import { applicationBusy } from './samples.js';

/** A claim's figure and its interval. */
export interface Measured {
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly level: Figure['level'];
  /** What a reader of the verdict should know besides. */
  readonly beside?: string;
}

type Claimed<Metric> = Extract<Claim, { metric: Metric }>;

/** The slope of the straight line through the ratios to the baseline, per worker, or why there is none. */
export function slopeOf(
  claim: Claimed<'slopePerWorker'>,
  found: readonly (Point | undefined)[],
): Measured | string {
  const ends = found.flatMap((point, index) => {
    const figure = point?.summary?.ratioToBaseline;
    const x = claim.points.workers[index];
    return figure === undefined || figure === null || x === undefined ? [] : [{ x, figure }];
  });
  if (ends.length < claim.points.workers.length) return 'no figure for some of its points';
  const { slope, r2 } = fitLine(ends.map(({ x, figure }) => [x, figure.median]));
  if (r2 < claim.minR2) {
    return `no straight line: R² is ${r2.toFixed(3)}, expected at least ${claim.minR2}`;
  }
  // The slope is a weighted sum of the points; all of them off by their worst at once is the widest it can be.
  const centre = mean(ends.map(({ x }) => x));
  const spread = ends.reduce((sum, { x }) => sum + (x - centre) ** 2, 0);
  const half = ends.reduce((sum, { x, figure: { low, median, high } }) => {
    const reach = Math.max(high - median, median - low);
    return sum + (Math.abs(x - centre) / spread) * reach;
  }, 0);
  const level = levelOf(ends.map(({ figure }) => figure));
  return { value: slope, low: slope - half, high: slope + half, level };
}

interface Step {
  readonly workers: number;
  readonly carried: Figure;
  /** Share of the time that the application's thread executed, 0 to 1. */
  readonly busy: number;
}

/**
 * What each further worker adds, as a fraction of what the first number of them carries per worker: the least of the
 * steps that begin while the application is busy for less than `busyFrom` of the time. A step that reaches the
 * application's limit on its way counts as well. Or why there is none.
 */
export function growthOf(
  claim: Claimed<'growthUntilBusy'>,
  found: readonly (Point | undefined)[],
): Measured | string {
  const steps: Step[] = [];
  for (const [index, workers] of claim.points.workers.entries()) {
    const point = found[index];
    const carried = point?.summary?.requestsPerSecond;
    if (point === undefined || carried === undefined) return 'no figure for some of its points';
    const busy = applicationBusy(point);
    if (busy === null) return 'how busy its application was is counted in virtual time alone';
    steps.push({ workers, carried, busy });
  }
  const [first] = steps;
  if (first === undefined) return 'no figure';
  const shares = steps.map(({ busy }) => `${(busy * 100).toFixed(0)} %`).join(', ');
  const beside = `the application was busy ${shares} of the time`;
  const added = steps.flatMap((next, index) => {
    const from = steps[index - 1];
    return from === undefined || from.busy >= claim.busyFrom ? [] : [addedBy(from, next, first)];
  });
  if (added.length === 0) return `no step to judge: ${beside}`;
  const least = added.reduce((low, one) => (one.value < low.value ? one : low));
  return { ...least, level: levelOf(steps.map(({ carried }) => carried)), beside };
}

/** What a worker between the two adds, relative to one of the first; the ends are the farthest that intervals allow. */
function addedBy(from: Step, next: Step, first: Step): Pick<Measured, 'value' | 'low' | 'high'> {
  const relative = (upper: number, lower: number, base: number): number =>
    (upper - lower) / (next.workers - from.workers) / (base / first.workers);
  return {
    value: relative(next.carried.median, from.carried.median, first.carried.median),
    low: relative(next.carried.low, from.carried.high, first.carried.high),
    high: relative(next.carried.high, from.carried.low, first.carried.low),
  };
}

const levelOf = (figures: readonly Figure[]): Figure['level'] =>
  figures.some(({ level }) => level === 'none') ? 'none' : 'boot';
