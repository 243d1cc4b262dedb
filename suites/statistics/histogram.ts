/**
 * Latencies as counts per bucket: `[highest value of the bucket in ns, count]`, by rising value. Lossless with respect to
 * what the generator recorded, and merged by adding counts; percentiles are never averaged.
 */
export type Histogram = readonly (readonly [highestNs: number, count: number])[];

/** Adds up histograms of the same bucket layout. */
export function mergeHistograms(histograms: readonly Histogram[]): Histogram {
  const [only] = histograms;
  if (only !== undefined && histograms.length === 1) return only;
  const counts = new Map<number, number>();
  for (const histogram of histograms) {
    for (const [value, count] of histogram) counts.set(value, (counts.get(value) ?? 0) + count);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

export function countOf(histogram: Histogram): number {
  return histogram.reduce((sum, [, count]) => sum + count, 0);
}

/**
 * The smallest recorded value that at least `fraction` of all values do not exceed.
 * @param fraction 0 to 1.
 * @returns undefined when the tail beyond it holds fewer than ten values: a p99.9 needs 10,000.
 */
export function percentile(histogram: Histogram, fraction: number): number | undefined {
  const total = countOf(histogram);
  // In thousandths, since 1 − 0.999 is not exactly 0.001.
  const tailPerMille = Math.round((1 - fraction) * 1_000);
  if (total * tailPerMille < 10 * 1_000) return undefined;
  const rank = Math.ceil(total * fraction - 1e-9);
  let seen = 0;
  for (const [value, count] of histogram) {
    seen += count;
    if (seen >= rank) return value;
  }
  return undefined;
}

/** Sub-buckets per power of two: three significant digits, as echo/load/histogram.h lays them out. */
const subBuckets = 1_024;

/** Highest value, in ns, that a bucket of the load generator's histogram holds. */
export function highestOf(bucket: number): number {
  const exponent = bucket < 2 * subBuckets ? 0 : Math.floor(bucket / subBuckets) - 1;
  // Multiplied rather than shifted: values go up to 2^42.
  return (bucket - subBuckets * exponent + 1) * 2 ** exponent - 1;
}

export interface EncodedHistogram {
  /** The largest value recorded; no bucket is said to reach beyond it. */
  readonly maxNs: number;
  /** In turn: the distance from the previous bucket (from -1 for the first), and the bucket's count. */
  readonly buckets: readonly number[];
}

/**
 * Decodes the load generator's form.
 * @throws RangeError when the list is not pairs of positive whole numbers.
 */
export function decodeHistogram({ buckets: pairs, maxNs }: EncodedHistogram): Histogram {
  if (pairs.length % 2 !== 0) throw new RangeError('found an odd number of values, expected pairs');
  const histogram: (readonly [number, number])[] = [];
  let bucket = -1;
  for (let at = 0; at < pairs.length; at += 2) {
    const [distance = 0, count = 0] = [pairs[at], pairs[at + 1]];
    if (!Number.isSafeInteger(distance) || !Number.isSafeInteger(count) || distance < 1 || count < 1) {
      throw new RangeError(`found the pair ${distance}, ${count}, expected whole numbers from 1`);
    }
    bucket += distance;
    histogram.push([Math.min(highestOf(bucket), maxNs), count]);
  }
  return histogram;
}
