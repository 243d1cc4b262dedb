import { expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bucketOf } from '../../test/suites/fake-vm.js';
import { projectRoot } from '../../vm/paths.js';
import { seededRandom } from '../plan/random.js';
import type { Placed } from './bootstrap.js';
import { medianFigure, quantile, ratioFigure, unitsOf } from './bootstrap.js';
import type { EncodedHistogram } from './histogram.js';
import { countOf, decodeHistogram, highestOf, mergeHistograms, percentile } from './histogram.js';
import { fitLine } from './line.js';
import { outliersOf } from './outliers.js';
import { percentileFigure } from './percentiles.js';
import { coefficientOfVariation, dropWarmup } from './warmup.js';

const random = () => seededRandom('test');

/** boots × windows values in one process each. */
function grid(rows: readonly (readonly number[])[]): readonly Placed<number>[] {
  return rows.flatMap((row, boot) => row.map((value, window) => ({ boot, process: 0, window, value })));
}

it('takes intervals over the highest level that was repeated', () => {
  const boots = grid([
    [1, 2],
    [3, 4],
  ]);
  const windows = grid([[1, 2, 3]]);
  const processes = [0, 1].map((process) => ({ boot: 0, process, window: 0, value: process }));

  expect(unitsOf(boots)).toMatchObject({ level: 'boot' });
  expect(unitsOf(processes)).toMatchObject({ level: 'process' });
  expect(unitsOf(windows)).toMatchObject({ level: 'window' });
  expect(medianFigure(grid([[5]]), random())).toEqual({ median: 5, low: 5, high: 5, n: 1, level: 'none' });
  expect(medianFigure([], random())).toBeUndefined();
});

it('does not take many windows of few boots for many samples', () => {
  const steadyWithinBoots = [100, 110, 90].map((value) => Array<number>(50).fill(value));

  const figure = medianFigure(grid(steadyWithinBoots), random());

  // Pooled, 150 windows would give an interval of almost nothing around 100.
  expect(figure).toMatchObject({ median: 100, low: 90, high: 110, n: 3, level: 'boot' });
});

it('gives the same interval for the same seed', () => {
  const values = grid([
    [10, 11],
    [12, 9],
    [10, 13],
    [8, 12],
  ]);

  expect(medianFigure(values, random())).toEqual(medianFigure(values, random()));
});

it('covers the true value about as often as it says', () => {
  const source = seededRandom('coverage');
  const normal = (): number => Array.from({ length: 12 }, source).reduce((sum, u) => sum + u, -6);
  let covered = 0;
  const trials = 300;

  for (let trial = 0; trial < trials; trial += 1) {
    const a = grid(Array.from({ length: 12 }, () => [200 + 10 * normal()]));
    const b = grid(Array.from({ length: 12 }, () => [100 + 5 * normal()]));
    const figure = ratioFigure(a, b, seededRandom(`trial ${trial}`), false);
    if (figure !== undefined && figure.low <= 2 && figure.high >= 2) covered += 1;
  }

  expect(covered / trials).toBeGreaterThan(0.88);
  expect(covered / trials).toBeLessThan(0.99);
});

it('lets what a boot does to both sides of a ratio cancel', () => {
  const base = [[100], [150], [80], [120]];
  const double = base.map(([value = 0]) => [value * 2]);

  const paired = ratioFigure(grid(double), grid(base), random(), true);
  const apart = ratioFigure(grid(double), grid(base), random(), false);

  expect(paired?.low).toBeCloseTo(2, 9);
  expect(paired?.high).toBeCloseTo(2, 9);
  expect((apart?.high ?? 0) - (apart?.low ?? 0)).toBeGreaterThan(0.5);
});

it('pairs boots only: two windows of one number have nothing in common', () => {
  const base = grid([[100, 150, 80, 120]]);
  const double = base.map((one) => ({ ...one, value: one.value * 2 }));

  const figure = ratioFigure(double, base, random(), true);

  expect(figure?.level).toBe('window');
  expect((figure?.high ?? 0) - (figure?.low ?? 0)).toBeGreaterThan(0.5);
});

it('has no ratio to a baseline that served nothing for a while', () => {
  expect(ratioFigure(grid([[6, 6, 6]]), grid([[3, 0, 3]]), random(), true)).toBeUndefined();
  expect(ratioFigure(grid([[6], [6]]), grid([[3], [0]]), random(), true)).toBeUndefined();
  expect(ratioFigure(grid([[0, 6, 6]]), grid([[3, 3, 3]]), random(), true)?.high).toBe(2);
});

it('gives a ratio of one sample each without claiming an interval', () => {
  expect(ratioFigure(grid([[6]]), grid([[3]]), random(), true)).toMatchObject({
    median: 2,
    n: 1,
    level: 'none',
  });
  expect(ratioFigure([], grid([[3]]), random(), true)).toBeUndefined();
});

it.each([
  [[1, 2, 3, 4], 0.5, 2.5],
  [[1, 2, 3, 4], 0, 1],
  [[1, 2, 3, 4], 1, 4],
  [[7], 0.3, 7],
])('interpolates quantiles of %j at %d', (values, fraction, expected) => {
  expect(quantile(values, fraction)).toBe(expected);
});

const interval = (requests: number): { durationNs: number; requests: number } => ({
  durationNs: 1e8,
  requests,
});

it('drops the start until the rate is steady, and says how much', () => {
  const steady = dropWarmup([10, 60, 80, 100, 101, 99, 100, 100, 101, 100].map(interval));

  expect(steady).toMatchObject({ dropped: 3, steady: true, requests: 701, durationNs: 7e8 });
});

it('keeps everything of what never becomes steady, and says so', () => {
  const wild = dropWarmup([10, 100, 10, 100, 10, 100, 10, 100, 10, 100].map(interval));

  expect(wild).toMatchObject({ dropped: 0, steady: false, requests: 550 });
});

it('never drops more than half, nor judges fewer intervals than it needs', () => {
  const late = dropWarmup([1, 1, 2, 4, 8, 16, 100, 100, 100, 100].map(interval));
  const few = dropWarmup([1, 100].map(interval));

  expect(late.steady).toBe(false);
  expect(few).toMatchObject({ dropped: 0, steady: true, requests: 101 });
  expect(coefficientOfVariation([5, 5, 5])).toBe(0);
});

it('marks outliers and leaves them in place', () => {
  const values = [100, 101, 99, 100, 102, 98, 100, 300];

  expect(outliersOf(values)).toEqual([false, false, false, false, false, false, false, true]);
  expect(outliersOf([1, 1_000])).toEqual([false, false]);
});

it('fits a line and says how well', () => {
  expect(
    fitLine([
      [1, 3],
      [2, 5],
      [3, 7],
    ]),
  ).toEqual({ slope: 2, intercept: 1, r2: 1 });
  expect(
    fitLine([
      [1, 1],
      [2, 3],
      [3, 1],
      [4, 3],
    ]).r2,
  ).toBeLessThan(0.5);
});

it('fits the published table as it was published', () => {
  const published = [82_802, 161_260, 257_491, 301_168, 393_052].map(
    (rps, at) => [at + 1, rps / 82_896] as const,
  );

  const { slope, r2 } = fitLine(published);

  expect(slope).toBeCloseTo(0.9173, 4);
  expect(r2).toBeCloseTo(0.99, 2);
});

it.each([0, 1, 2_047, 2_048, 2_049, 4_095, 4_096, 123_456, 1e9, 2 ** 42 - 1])(
  'has buckets that are less than 0.1 %% wide at %d ns',
  (value) => {
    const highest = highestOf(bucketOf(value));

    expect(highest).toBeGreaterThanOrEqual(value);
    expect(highest - value).toBeLessThanOrEqual(value / 1_024);
    expect(highestOf(bucketOf(highest))).toBe(highest);
    expect(highestOf(bucketOf(highest) + 1)).toBeGreaterThan(highest);
  },
);

interface LoadSample {
  readonly requests: number;
  readonly latency: EncodedHistogram & { readonly count: number };
  readonly latencySummary: Readonly<Record<'p50Ns' | 'p99Ns' | 'p999Ns', number>>;
}

const recorded = JSON.parse(
  readFileSync(join(projectRoot, 'test/suites/samples/load.json'), 'utf8'),
) as LoadSample;

it('reads percentiles off a recorded histogram exactly as the generator does', () => {
  const histogram = decodeHistogram(recorded.latency);

  expect(countOf(histogram)).toBe(recorded.requests);
  expect(percentile(histogram, 0.5)).toBe(recorded.latencySummary.p50Ns);
  expect(percentile(histogram, 0.99)).toBe(recorded.latencySummary.p99Ns);
  expect(percentile(histogram, 0.999)).toBe(recorded.latencySummary.p999Ns);
});

it('gives no percentile that fewer than ten values lie beyond', () => {
  const of = (count: number): number | undefined => percentile([[1_000, count]], 0.999);

  expect(of(9_999)).toBeUndefined();
  expect(of(10_000)).toBe(1_000);
  expect(percentile([], 0.5)).toBeUndefined();
});

it('merges histograms by adding counts, which averaging percentiles would get wrong', () => {
  const fast = [
    [100, 990],
    [200, 10],
  ] as const;
  const slow = [[5_000, 100]] as const;

  const merged = mergeHistograms([fast, slow]);

  expect(countOf(merged)).toBe(1_100);
  expect(percentile(merged, 0.9)).toBe(100);
  expect(percentile(merged, 0.99)).toBe(5_000);
});

it('finds the same percentile by its quick way as by adding histograms up', () => {
  const source = seededRandom('histograms');
  const boots = Array.from({ length: 6 }, (_, boot) => ({
    boot,
    process: 0,
    window: 0,
    value: Array.from(
      { length: 200 },
      (_unused, index) => [index * 7 + boot, 1 + Math.floor(source() * 90)] as const,
    ),
  }));

  for (const fraction of [0.5, 0.9, 0.99, 0.999]) {
    const all = mergeHistograms(boots.map(({ value }) => value));
    expect(percentileFigure(boots, fraction, random())?.median).toBe(percentile(all, fraction));
  }
});

it('draws whole boots for the interval of a percentile', () => {
  const boots = [100, 110, 90, 105].map((ns, boot) => ({
    boot,
    process: 0,
    window: 0,
    value: [[ns, 1_000]] as const,
  }));

  const figure = percentileFigure(boots, 0.5, random());

  expect(figure).toMatchObject({ median: 100, n: 4, level: 'boot' });
  expect(figure?.low).toBeGreaterThanOrEqual(90);
  expect(figure?.high).toBeLessThanOrEqual(110);
  expect((figure?.high ?? 0) > (figure?.low ?? 0)).toBe(true);
  expect(percentileFigure(boots, 0.999, random())).toBeNull();
});

it.each([
  ['an odd list', [1, 2, 3]],
  ['a count of nothing', [1, 0]],
  ['a step backwards', [-1, 5]],
])('refuses a histogram with %s', (_what, buckets) => {
  expect(() => decodeHistogram({ buckets, maxNs: 1_000 })).toThrow(RangeError);
});
