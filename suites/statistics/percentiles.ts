import type { Random } from '../plan/random.js';
import type { Figure } from '../schema/results.js';
import type { Placed } from './bootstrap.js';
import { figureOf, unitsOf } from './bootstrap.js';
import type { Histogram } from './histogram.js';
import { mergeHistograms, percentile } from './histogram.js';

/**
 * A percentile of all latencies together; the interval draws whole boots (or the highest level there is), adding their
 * histograms each time.
 * @param fraction 0 to 1.
 * @returns null when there are too few latencies for that percentile.
 */
export function percentileFigure(
  placed: readonly Placed<Histogram>[],
  fraction: number,
  random: Random,
): Figure | null {
  const { level, units } = unitsOf(placed);
  const merged = [...units.values()].map(mergeHistograms);
  const all = mergeHistograms(merged);
  if (percentile(all, fraction) === undefined) return null;
  // Thousands of draws are added up: dense rows over the buckets of all units are a hundred times quicker than maps.
  const values = all.map(([value]) => value);
  const column = new Map(values.map((value, index) => [value, index]));
  const rows = merged.map((histogram) => {
    const row = new Float64Array(values.length);
    for (const [value, count] of histogram) row[column.get(value) ?? 0] = count;
    return row;
  });
  return figureOf(rows, (drawn) => atFraction(drawn, values, fraction), level, random);
}

function atFraction(rows: readonly Float64Array[], values: readonly number[], fraction: number): number {
  const sums = new Float64Array(values.length);
  let total = 0;
  for (const row of rows) {
    for (let index = 0; index < row.length; index += 1) {
      const count = row[index] ?? 0;
      sums[index] = (sums[index] ?? 0) + count;
      total += count;
    }
  }
  const rank = Math.max(1, Math.ceil(total * fraction - 1e-9));
  let seen = 0;
  for (let index = 0; index < sums.length; index += 1) {
    seen += sums[index] ?? 0;
    if (seen >= rank) return values[index] ?? Number.NaN;
  }
  return values.at(-1) ?? Number.NaN;
}
