import { expect, it } from '@jest/globals';
import { figure, pointOf, virtual } from '../../test/suites/points.js';
import type { Claim } from '../schema/claims.js';
import type { ClaimResult, Point, Sample } from '../schema/results.js';
import { judgeClaims } from './claims.js';

const growth: Claim = {
  kind: 'published',
  suite: 'redis',
  id: 'growth',
  title: 'Each worker adds as much, until the application is busy',
  metric: 'growthUntilBusy',
  points: { server: 'redis', workers: [1, 2, 4], connections: 50, messageBytes: 64 },
  busyFrom: 0.95,
  published: 1,
  tolerance: 0.15,
  direction: 'at-least',
  source: 'a sentence made for this test',
  comparable: { virtual: {} },
};

const sample: Sample = {
  run: 'r',
  boot: 0,
  process: 0,
  window: 0,
  requestsPerSecond: 0,
  cpusUsed: null,
  requestsPerSecondPerCpu: null,
  p50Ns: null,
  p99Ns: null,
  p999Ns: null,
  latencies: 0,
  instructionsPerRequest: null,
  generatorBusy: null,
  applicationBusy: null,
  droppedIntervals: 0,
  steady: true,
  outlier: false,
  errors: 0,
};

const point = (workers: number, requestsPerSecond: number, applicationBusy: number | null): Point =>
  pointOf(workers, figure(requestsPerSecond, 100), {
    suite: 'redis',
    server: 'redis',
    connections: 50,
    samples: [{ ...sample, applicationBusy }],
  });

/** The verdict on points of one, two and four workers, the application busy for such shares of the time. */
function judge(
  [one, two, four]: readonly [number, number, number],
  [a, b, c]: readonly [number | null, number | null, number | null],
): ClaimResult | undefined {
  const points = [point(1, one, a), point(2, two, b), point(4, four, c)];
  return judgeClaims([growth], points, [], virtual)[0];
}

it('takes the step that adds least, per worker, and says how busy the application was', () => {
  const judged = judge([70_000, 140_000, 266_000], [0.4, 0.6, 0.9]);

  expect(judged).toMatchObject({ verdict: 'PASS', measured: 0.9, workers: [1, 2, 4] });
  expect(judged?.low).toBeCloseTo((265_900 - 140_100) / 2 / 70_100, 9);
  expect(judged?.high).toBeCloseTo((266_100 - 139_900) / 2 / 69_900, 9);
  expect(judged?.reason).toContain('the application was busy 40 %, 60 %, 90 % of the time');
});

it('fails when a step adds too little that began with time left, also when it ended without any', () => {
  expect(judge([70_000, 120_000, 260_000], [0.4, 0.6, 0.9])?.verdict).toBe('FAIL');
  expect(judge([70_000, 140_000, 200_000], [0.4, 0.94, 1])?.verdict).toBe('FAIL');
});

it('leaves out what comes after the application is busy', () => {
  expect(judge([70_000, 140_000, 150_000], [0.4, 0.95, 1])).toMatchObject({ verdict: 'PASS', measured: 1 });
});

it('does not judge where it was busy from the start, or nobody counted', () => {
  expect(judge([70_000, 75_000, 75_000], [0.96, 1, 1])).toMatchObject({
    verdict: 'NOT COMPARABLE',
    reason: 'no step to judge: the application was busy 96 %, 100 %, 100 % of the time',
  });
  expect(judge([70_000, 140_000, 280_000], [null, null, null])).toMatchObject({
    verdict: 'NOT COMPARABLE',
    reason: 'how busy its application was is counted in virtual time alone',
  });
});
