import type { Progress, ProgressFigure } from '../../vm/progress.js';
import type { Claim } from '../schema/claims.js';
import type { Point } from '../schema/results.js';
import { conditionKey } from '../schema/results.js';

/** The table's row of a point, with what was published for it. */
export function rowOf(point: Point, claims: readonly Claim[]): Extract<Progress, { kind: 'row' }> {
  const { summary } = point;
  const published = (metric: Claim['metric']): number | null =>
    claims.find(
      (claim) =>
        claim.kind === 'published' &&
        claim.metric === metric &&
        'point' in claim &&
        claim.suite === point.suite &&
        claim.point.server === point.server &&
        claim.point.workers === point.workers &&
        conditionKey(claim.point) === conditionKey(point),
    )?.published ?? null;
  return {
    kind: 'row',
    suite: point.suite,
    point: point.id,
    server: point.server,
    workers: point.workers,
    connections: point.connections,
    messageBytes: point.messageBytes,
    ...(point.request === undefined ? {} : { request: point.request }),
    requestsPerSecond: figure(summary?.requestsPerSecond),
    requestsPerSecondPerCpu: figure(summary?.requestsPerSecondPerCpu),
    ratioToBaseline: figure(summary?.ratioToBaseline),
    p50Ns: figure(summary?.p50Ns),
    p99Ns: figure(summary?.p99Ns),
    publishedRequestsPerSecond: published('requestsPerSecond'),
    publishedRatio: published('ratioToBaseline'),
    note: point.status === 'ok' ? '' : `${point.status}: ${point.reasons[0] ?? ''}`,
  };
}

function figure(value: ProgressFigure | null | undefined): ProgressFigure | null {
  if (value === null || value === undefined) return null;
  const { median, low, high } = value;
  return { median, low, high };
}
