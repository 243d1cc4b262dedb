import type { Random } from '../plan/random.js';
import type { Figure, levels } from '../schema/results.js';

/** A value and where in the hierarchy it was taken: window within process within boot. */
export interface Placed<T> {
  readonly boot: number;
  readonly process: number;
  readonly window: number;
  readonly value: T;
}

export type Level = (typeof levels)[number];

/** Members of one unit at the level of repetition that intervals are taken over. */
export type Units<T> = ReadonlyMap<string, readonly T[]>;

/** Enough that the ends of a 95 % interval are stable to about 1 % of its width. */
export const resamples = 2_000;

const confidence = 0.95;

/**
 * Groups values by the highest level of repetition with at least two members. Windows of one boot are correlated, so
 * an interval over pooled windows would be too narrow: it is taken over boots whenever there are several.
 */
export function unitsOf<T>(placed: readonly Placed<T>[]): {
  readonly level: Level;
  readonly units: Units<T>;
} {
  const keys = {
    boot: ({ boot }: Placed<T>) => `${boot}`,
    process: ({ boot, process }: Placed<T>) => `${boot}/${process}`,
    window: ({ boot, process, window }: Placed<T>) => `${boot}/${process}/${window}`,
  };
  for (const level of ['boot', 'process', 'window'] as const) {
    const units = group(placed, keys[level]);
    if (units.size >= 2) return { level, units };
  }
  return { level: 'none', units: group(placed, keys.window) };
}

function group<T>(placed: readonly Placed<T>[], keyOf: (one: Placed<T>) => string): Units<T> {
  const groups = new Map<string, T[]>();
  for (const one of placed) {
    const key = keyOf(one);
    const members = groups.get(key);
    if (members === undefined) groups.set(key, [one.value]);
    else members.push(one.value);
  }
  return groups;
}

/** Median over units of each unit's mean, with its percentile bootstrap interval; undefined without values. */
export function medianFigure(placed: readonly Placed<number>[], random: Random): Figure | undefined {
  const { level, units } = unitsOf(placed);
  const means = [...units.values()].map(mean);
  if (means.length === 0) return undefined;
  return figureOf(means, median, level, random);
}

/**
 * Any statistic of units, with its percentile bootstrap interval.
 * @param units One entry per member of `level`; not empty.
 */
export function figureOf<T>(
  units: readonly T[],
  statistic: (units: readonly T[]) => number,
  level: Level,
  random: Random,
): Figure {
  const estimate = statistic(units);
  if (units.length < 2) return { median: estimate, low: estimate, high: estimate, n: 1, level: 'none' };
  const values = Array.from({ length: resamples }, () => statistic(resample(units, random)));
  return { median: estimate, ...percentileInterval(values), n: units.length, level };
}

/**
 * Ratio of the means of two sets, A ÷ B, by hierarchical bootstrap. When both were measured in the same boots, boots are
 * drawn for the two together: what a boot does to both cancels. Undefined without values, and where a unit of B is 0:
 * some draws would have no ratio then.
 */
export function ratioFigure(
  numerator: readonly Placed<number>[],
  denominator: readonly Placed<number>[],
  random: Random,
  paired: boolean,
): Figure | undefined {
  if (numerator.length === 0 || denominator.length === 0) return undefined;
  const above = unitsOf(numerator);
  const below = unitsOf(denominator);
  const belowMeans = [...below.units.values()].map(mean);
  if (belowMeans.includes(0)) return undefined;
  const shared = [...above.units.keys()].filter((key) => below.units.has(key));
  if (paired && above.level === 'boot' && below.level === 'boot' && shared.length >= 2) {
    const pairs = shared.map((key) => ({
      above: mean(above.units.get(key) ?? []),
      below: mean(below.units.get(key) ?? []),
    }));
    const ratio = (drawn: typeof pairs): number =>
      mean(drawn.map((pair) => pair.above)) / mean(drawn.map((pair) => pair.below));
    return figureOf(pairs, (drawn) => ratio([...drawn]), above.level, random);
  }
  const aboveMeans = [...above.units.values()].map(mean);
  const estimate = mean(aboveMeans) / mean(belowMeans);
  const n = Math.min(aboveMeans.length, belowMeans.length);
  if (n < 2) return { median: estimate, low: estimate, high: estimate, n: 1, level: 'none' };
  const values = Array.from(
    { length: resamples },
    () => mean(resample(aboveMeans, random)) / mean(resample(belowMeans, random)),
  );
  return { median: estimate, ...percentileInterval(values), n, level: above.level };
}

/** The middle 95 % of bootstrap values. */
function percentileInterval(values: readonly number[]): { readonly low: number; readonly high: number } {
  const sorted = values.toSorted((a, b) => a - b);
  const tail = (1 - confidence) / 2;
  return { low: quantile(sorted, tail), high: quantile(sorted, 1 - tail) };
}

function resample<T>(items: readonly T[], random: Random): readonly T[] {
  return items.map(() => items[Math.floor(random() * items.length)] as T);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function median(values: readonly number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

/** Linear interpolation between the neighbours in rank (Hyndman and Fan's type 7). */
export function quantile(sorted: readonly number[], fraction: number): number {
  const rank = (sorted.length - 1) * fraction;
  const below = sorted[Math.floor(rank)] ?? Number.NaN;
  const above = sorted[Math.ceil(rank)] ?? Number.NaN;
  return below + (above - below) * (rank - Math.floor(rank));
}
