import type { Conditions } from '../../suites/judge/comparable.js';
import type { Figure, Point } from '../../suites/schema/results.js';

/** Virtual time on a host that no figure depends on. */
export const virtual: Conditions = {
  clock: 'virtual',
  accel: 'tcg',
  costProfile: 'neoverse-n1',
  cpuModel: 'Some CPU',
  hostCpus: 2,
  guestCpus: 16,
};

/** A figure over five boots, or one without an interval. */
export const figure = (median: number, half = 0.01, level: Figure['level'] = 'boot'): Figure => ({
  median,
  low: median - half,
  high: median + half,
  n: level === 'none' ? 1 : 5,
  level,
});

/** A point of the echo suite that carried so many requests, and nothing else that is known. */
export function pointOf(
  workers: number,
  requestsPerSecond: Figure,
  changes: Partial<Point> = {},
  summary: Partial<NonNullable<Point['summary']>> = {},
): Point {
  return {
    id: `echo/fastio/w${workers}/c25/b64`,
    suite: 'echo',
    server: 'fastio',
    title: 'FastIO',
    workers,
    connections: 25,
    messageBytes: 64,
    rate: null,
    loop: 'closed',
    clock: 'virtual',
    accel: 'tcg',
    baseline: false,
    serverCpus: workers + 1,
    loadThreads: 8,
    status: 'ok',
    reasons: [],
    comparable: true,
    samples: [],
    summary: {
      requestsPerSecond,
      requestsPerSecondPerCpu: null,
      ratioToBaseline: null,
      perCpuRatioToBaseline: null,
      p50Ns: null,
      p99Ns: null,
      p999Ns: null,
      instructionsPerRequest: null,
      ...summary,
    },
    errors: 0,
    ...changes,
  };
}
