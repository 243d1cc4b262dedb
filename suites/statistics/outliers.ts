import { quantile } from './bootstrap.js';

/** Below this many values the quartiles themselves are guesses, and nothing is marked. */
const minValues = 8;

/**
 * Marks values beyond Tukey's fences (1.5 interquartile ranges outside the quartiles). Marked values are shown, never
 * left out of any figure.
 */
export function outliersOf(values: readonly number[]): readonly boolean[] {
  if (values.length < minValues) return values.map(() => false);
  const sorted = values.toSorted((a, b) => a - b);
  const low = quantile(sorted, 0.25);
  const high = quantile(sorted, 0.75);
  const reach = 1.5 * (high - low);
  return values.map((value) => value < low - reach || value > high + reach);
}
