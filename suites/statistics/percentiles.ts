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
  // Thousands of draws are added up. With running totals over the buckets of all units, a draw is a binary search.
  const values = all.map(([value]) => value);
  const column = new Map(values.map((value, index) => [value, index]));
  const totals = merged.map((histogram) => {
    const row = new Float64Array(values.length);
    for (const [value, count] of histogram) row[column.get(value) ?? 0] = count;
    for (let index = 1; index < row.length; index += 1)
      row[index] = (row[index] ?? 0) + (row[index - 1] ?? 0);
    return row;
  });
  return figureOf(totals, (drawn) => values[rankIn(drawn, fraction)] ?? Number.NaN, level, random);
}

/** Index of the first bucket up to which `fraction` of all values lie; each row holds running totals. */
function rankIn(rows: readonly Float64Array[], fraction: number): number {
  const upTo = (index: number): number => {
    let sum = 0;
    for (const row of rows) sum += row[index] ?? 0;
    return sum;
  };
  let high = (rows[0]?.length ?? 1) - 1;
  const rank = Math.max(1, Math.ceil(upTo(high) * fraction - 1e-9));
  let low = 0;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (upTo(middle) >= rank) high = middle;
    else low = middle + 1;
  }
  return low;
}
