import { expect, it } from '@jest/globals';
import { figure, pointOf, virtual } from '../../test/suites/points.js';
import type { Claim } from '../schema/claims.js';
import type { Figure, Point } from '../schema/results.js';
import { judgeClaims } from './claims.js';
import type { Conditions } from './comparable.js';
import { incomparableReasons } from './comparable.js';

const metal: Conditions = {
  ...virtual,
  clock: 'wall',
  accel: 'kvm',
  costProfile: null,
  cpuModel: 'eMAG 8180',
  hostCpus: 32,
};

const point = (workers: number, ratioToBaseline: Figure, changes: Partial<Point> = {}): Point =>
  pointOf(workers, figure(100_000 * workers, 500), changes, { ratioToBaseline });

const common = {
  kind: 'published' as const,
  suite: 'echo',
  tolerance: 0.1,
  direction: 'at-least' as const,
  source: 'a table made for this test',
};

const ratioClaim = {
  ...common,
  id: 'ratio-2',
  title: 'Two workers carry twice as much',
  metric: 'ratioToBaseline',
  point: { server: 'fastio', workers: 2, connections: 25, messageBytes: 64 },
  published: 2,
  comparable: { wall: {}, virtual: {} },
} as const satisfies Claim;

const absolute = {
  ...ratioClaim,
  metric: 'requestsPerSecond',
  published: 200_000,
  comparable: { wall: { cpuModel: 'eMAG' }, virtual: { costProfile: 'emag' } },
} as const satisfies Claim;

const slope: Claim = {
  ...common,
  id: 'linear',
  title: 'Throughput grows in a straight line',
  metric: 'slopePerWorker',
  points: { server: 'fastio', workers: [1, 2, 3, 4, 5], connections: 25, messageBytes: 64 },
  minR2: 0.97,
  published: 0.92,
  comparable: { wall: {}, virtual: {} },
};

const judge = (claim: Claim, points: readonly Point[], conditions: Conditions = virtual) =>
  judgeClaims([claim], points, [], conditions)[0];

it.each([
  ['as published', figure(2), 'PASS'],
  ['just within the tolerance', figure(1.82), 'PASS'],
  ['far above what was published', figure(3), 'PASS'],
  ['below the tolerance', figure(1.7), 'FAIL'],
  ['across the bound', figure(1.8, 0.1), 'NOT COMPARABLE'],
  ['a single sample', figure(2, 0, 'none'), 'NOT COMPARABLE'],
])('judges a ratio that is %s', (_what, ratio, verdict) => {
  expect(judge(ratioClaim, [point(2, ratio)])?.verdict).toBe(verdict);
});

it('takes more for a refutation only when the claim is "within"', () => {
  const within: Claim = { ...ratioClaim, direction: 'within' };

  expect(judge(within, [point(2, figure(3))])?.verdict).toBe('FAIL');
  expect(judge(within, [point(2, figure(2.1))])?.verdict).toBe('PASS');
});

it('fails a claim of "at most" for too much only', () => {
  const atMost: Claim = { ...ratioClaim, direction: 'at-most', tolerance: 0 };

  expect(judge(atMost, [point(2, figure(1.9))])?.verdict).toBe('PASS');
  expect(judge(atMost, [point(2, figure(2, 0.1))])?.verdict).toBe('NOT COMPARABLE');
  expect(judge(atMost, [point(2, figure(2.1))])).toMatchObject({
    verdict: 'FAIL',
    reason: '2.09 to 2.11; needed at most 2.00',
  });
});

it('sets the p99 beside that of the baseline under the same conditions, by the worst their intervals allow', () => {
  const below: Claim = {
    ...ratioClaim,
    metric: 'p99RatioToBaseline',
    published: 1,
    direction: 'at-most',
    tolerance: 0,
  };
  const withP99 = (one: Point, p99Ns: Figure): Point => ({
    ...one,
    ...(one.summary === null ? {} : { summary: { ...one.summary, p99Ns } }),
  });
  const base = withP99(point(1, figure(1), { server: 'epoll', baseline: true }), figure(600_000, 1_000));
  const elsewhere = { ...base, connections: 100 };
  const own = withP99(point(2, figure(2)), figure(300_000, 1_000));

  const judged = judge(below, [elsewhere, base, own]);

  expect(judged).toMatchObject({ verdict: 'PASS', measured: 0.5, low: 299 / 601, high: 301 / 599 });
  expect(judge(below, [elsewhere, own])?.verdict).toBe('NOT COMPARABLE');
  expect(judge(below, [base, withP99(own, figure(700_000))])?.verdict).toBe('FAIL');
});

it('sets requests per CPU beside those of another point under the same conditions', () => {
  const pair: Claim = {
    ...common,
    id: 'per-cpu',
    title: 'A CPU carries as much as with io_uring',
    metric: 'perCpuRatioToPoint',
    point: { server: 'fastio', workers: 2, connections: 25, messageBytes: 64 },
    against: { server: 'io_uring', workers: 3 },
    published: 1,
    tolerance: 0,
    comparable: { virtual: {} },
  };
  const withPerCpu = (one: Point, requestsPerSecondPerCpu: Figure): Point => ({
    ...one,
    ...(one.summary === null ? {} : { summary: { ...one.summary, requestsPerSecondPerCpu } }),
  });
  const own = withPerCpu(point(2, figure(2)), figure(84_000, 100));
  const other = withPerCpu(point(3, figure(3), { server: 'io_uring' }), figure(80_000, 100));

  expect(judge(pair, [own, other])).toMatchObject({
    verdict: 'PASS',
    measured: 1.05,
    low: 83_900 / 80_100,
    high: 84_100 / 79_900,
  });
  expect(judge(pair, [own, withPerCpu(other, figure(85_000, 100))])?.verdict).toBe('FAIL');
  expect(judge(pair, [own, withPerCpu(other, figure(80_000, 0, 'none'))])?.verdict).toBe('NOT COMPARABLE');
  expect(judge(pair, [own, { ...other, connections: 100 }])?.verdict).toBe('NOT COMPARABLE');
  const carried: Claim = { ...pair, metric: 'ratioToPoint' };
  const three = point(3, figure(3), { server: 'io_uring' });
  const factor =
    (point(2, figure(2)).summary?.requestsPerSecond.median ?? 0) /
    (three.summary?.requestsPerSecond.median ?? 1);
  expect(judge(carried, [own, three])?.measured).toBeCloseTo(factor, 6);
  const idle = { ...other, status: 'invalid' as const, reasons: ['the generator was the bottleneck'] };
  expect(judge(pair, [own, idle])).toMatchObject({ verdict: 'NOT COMPARABLE', reason: idle.reasons[0] });
});

it('judges ratios on any hardware, but not under emulation or with too few CPUs', () => {
  const good = [point(2, figure(2))];

  expect(judge(ratioClaim, good, { ...metal, cpuModel: 'Neoverse' })?.verdict).toBe('PASS');
  const emulated = judge(ratioClaim, good, { ...metal, accel: 'tcg' });
  expect(emulated?.verdict).toBe('NOT COMPARABLE');
  expect(emulated?.reason).toContain('emulation');
  const crowded = judge(ratioClaim, good, { ...metal, hostCpus: 4 });
  expect(crowded?.verdict).toBe('NOT COMPARABLE');
  expect(crowded?.reason).toContain('the guest has 16 vCPUs and the host 4 CPUs');
});

it('judges absolute figures only on their own hardware, or under its cost profile', () => {
  const good = [point(2, figure(2))];

  expect(judge(absolute, good, metal)?.verdict).toBe('PASS');
  expect(judge(absolute, good, { ...metal, cpuModel: 'EPYC' })?.reason).toContain('found "EPYC"');
  expect(judge(absolute, good, virtual)?.reason).toContain('needs the cost profile "emag"');
  expect(judge(absolute, good, { ...virtual, costProfile: 'emag' })?.verdict).toBe('PASS');
});

it('fails a claim whose point failed, and does not judge by one that is invalid, pending or missing', () => {
  const with2 = (changes: Partial<Point>): Point => point(2, figure(2), changes);

  expect(judge(ratioClaim, [with2({ status: 'failed', reasons: ['wrong bytes'] })])).toMatchObject({
    verdict: 'FAIL',
    reason: 'the point failed: wrong bytes',
  });
  expect(judge(ratioClaim, [with2({ status: 'invalid', reasons: ['generator'] })])?.reason).toBe('generator');
  expect(judge(ratioClaim, [with2({ status: 'pending' })])?.reason).toBe('not measured yet');
  expect(judge(ratioClaim, [point(3, figure(3))])?.reason).toContain('not part of the profile');
});

it('leaves claims on other suites out', () => {
  expect(judge({ ...ratioClaim, suite: 'redis' }, [point(2, figure(2))])).toBeUndefined();
});

it('judges a slope by the line through all points, and refuses what is no line', () => {
  const points = (ratios: readonly number[]): readonly Point[] =>
    ratios.map((ratio, index) => point(index + 1, figure(ratio)));

  const straight = judge(slope, points([1, 1.95, 2.9, 3.85, 4.8]));
  expect(straight).toMatchObject({ verdict: 'PASS', workers: [1, 2, 3, 4, 5] });
  expect(straight?.measured).toBeCloseTo(0.95, 6);
  expect((straight?.high ?? 0) - (straight?.low ?? 0)).toBeGreaterThan(0);
  expect(judge(slope, points([1, 1.5, 2, 2.5, 3]))?.verdict).toBe('FAIL');
  expect(judge(slope, points([1, 2, 2.1, 2.1, 2.1]))?.reason).toContain('no straight line: R²');
  expect(judge(slope, points([1, 1.95, 2.9, 3.85]))?.verdict).toBe('NOT COMPARABLE');
});

it('finds nothing to say against virtual time or a host with CPUs enough', () => {
  expect(incomparableReasons(virtual)).toEqual([]);
  expect(incomparableReasons(metal)).toEqual([]);
  expect(incomparableReasons({ ...metal, accel: 'tcg', hostCpus: 2 })).toHaveLength(2);
});
