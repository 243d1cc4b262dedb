import { mean } from './bootstrap.js';

export interface Interval {
  readonly durationNs: number;
  readonly requests: number;
}

export interface Steady {
  /** Intervals at the start that were still warm-up and are left out. */
  readonly dropped: number;
  /** false: no steady stretch was found, so nothing is dropped and the sample is flagged. */
  readonly steady: boolean;
  readonly requests: number;
  readonly durationNs: number;
}

export interface SteadyRule {
  /** Intervals that must agree. */
  readonly window: number;
  /** Largest coefficient of variation of those, 0 to 1. */
  readonly maxCov: number;
  /** Largest share of the intervals that may be dropped. */
  readonly maxDropped: number;
}

/** Georges et al. 2007 take 0.02 for JITted programs; a network echo over short intervals swings more. */
export const steadyRule: SteadyRule = { window: 4, maxCov: 0.05, maxDropped: 0.5 };

/**
 * Finds where a measurement became steady: the first interval from which `window` intervals in a row have a coefficient
 * of variation of at most `maxCov`. With fewer intervals than that there is nothing to judge, and all are used.
 */
export function dropWarmup(intervals: readonly Interval[], rule: SteadyRule = steadyRule): Steady {
  if (intervals.length < rule.window) return total(intervals, 0, true);
  const last = Math.min(Math.floor(intervals.length * rule.maxDropped), intervals.length - rule.window);
  for (let start = 0; start <= last; start += 1) {
    const rates = intervals.slice(start, start + rule.window).map(rateOf);
    if (coefficientOfVariation(rates) <= rule.maxCov) return total(intervals, start, true);
  }
  return total(intervals, 0, false);
}

function total(intervals: readonly Interval[], dropped: number, steady: boolean): Steady {
  const kept = intervals.slice(dropped);
  return {
    dropped,
    steady,
    requests: kept.reduce((sum, { requests }) => sum + requests, 0),
    durationNs: kept.reduce((sum, { durationNs }) => sum + durationNs, 0),
  };
}

const rateOf = ({ requests, durationNs }: Interval): number => (durationNs > 0 ? requests / durationNs : 0);

/** Standard deviation ÷ mean; 0 when all are equal, infinite when the mean is 0 but the values are not. */
export function coefficientOfVariation(values: readonly number[]): number {
  const centre = mean(values);
  const variance = mean(values.map((value) => (value - centre) ** 2));
  if (variance === 0) return 0;
  return Math.sqrt(variance) / Math.abs(centre);
}
