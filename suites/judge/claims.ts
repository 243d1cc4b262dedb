import type { Claim } from '../schema/claims.js';
import type { ClaimResult, ConditionPlace, Figure, Noise, Point, Verdict } from '../schema/results.js';
import { conditionKey } from '../schema/results.js';
import type { Conditions } from './comparable.js';
import { whyNotJudged } from './comparable.js';
import { growthOf, slopeOf } from './series.js';
import type { Measured } from './series.js';

/** The verdict on each claim. Claims on suites that were not run are left out. */
export function judgeClaims(
  claims: readonly Claim[],
  points: readonly Point[],
  noise: readonly Noise[],
  conditions: Conditions,
): readonly ClaimResult[] {
  const suites = new Set(points.map(({ suite }) => suite));
  return claims
    .filter(({ suite }) => suites.has(suite))
    .map((claim) => judge(claim, points, noise, conditions));
}

function judge(
  claim: Claim,
  points: readonly Point[],
  noise: readonly Noise[],
  conditions: Conditions,
): ClaimResult {
  const place = 'points' in claim ? claim.points : claim.point;
  const workers = [place.workers].flat();
  const found = workers.map((n) => find(points, claim.suite, { ...place, workers: n }));
  const measured = measure(claim, found, points);
  const band = noise.find((one) => one.suite === claim.suite && conditionKey(one) === conditionKey(place));
  const involved = 'against' in claim ? [...found, otherOf(claim, points)] : found;
  const { verdict, reason } = verdictOf(claim, involved, measured, conditions);
  const { kind, id, title, metric, suite, published, tolerance, direction, source } = claim;
  return {
    kind,
    id,
    title,
    metric,
    suite,
    server: place.server,
    workers,
    connections: place.connections,
    messageBytes: place.messageBytes,
    ...(place.request === undefined ? {} : { request: place.request }),
    published,
    tolerance,
    direction,
    measured: typeof measured === 'string' ? null : measured.value,
    low: typeof measured === 'string' ? null : measured.low,
    high: typeof measured === 'string' ? null : measured.high,
    noise: band === undefined ? null : { low: band.ratio.low, high: band.ratio.high },
    verdict,
    reason,
    source,
  };
}

interface Place extends ConditionPlace {
  readonly server: string;
  readonly workers: number;
}

function find(points: readonly Point[], suite: string, place: Place): Point | undefined {
  return points.find(
    (point) =>
      point.suite === suite &&
      point.server === place.server &&
      point.workers === place.workers &&
      conditionKey(point) === conditionKey(place),
  );
}

/** The point that a claim's own is set against. */
function otherOf(
  { suite, point, against }: Extract<Claim, { against: unknown }>,
  points: readonly Point[],
): Point | undefined {
  return find(points, suite, { ...point, ...against });
}

/** The claim's figure, or why there is none. */
function measure(
  claim: Claim,
  found: readonly (Point | undefined)[],
  points: readonly Point[],
): Measured | string {
  if (claim.metric === 'slopePerWorker') return slopeOf(claim, found);
  if (claim.metric === 'growthUntilBusy') return growthOf(claim, found);
  if (claim.metric === 'p99RatioToBaseline') return p99RatioOf(found[0], points);
  if ('against' in claim) {
    const key = claim.metric === 'ratioToPoint' ? 'requestsPerSecond' : 'requestsPerSecondPerCpu';
    return quotient(found[0]?.summary?.[key], otherOf(claim, points)?.summary?.[key]);
  }
  const figure = found[0]?.summary?.[claim.metric];
  if (figure === undefined || figure === null) return 'no figure';
  return { value: figure.median, low: figure.low, high: figure.high, level: figure.level };
}

function p99RatioOf(point: Point | undefined, points: readonly Point[]): Measured | string {
  const base = points.find(
    (other) => other.baseline && other.suite === point?.suite && conditionKey(other) === conditionKey(point),
  );
  return quotient(point?.summary?.p99Ns, base?.summary?.p99Ns);
}

/** The ratio of two figures; its ends are the farthest that their intervals allow. */
function quotient(own: Figure | null | undefined, theirs: Figure | null | undefined): Measured | string {
  if (own === undefined || own === null || theirs === undefined || theirs === null) return 'no figure';
  const level = theirs.level === 'none' ? 'none' : own.level;
  return {
    value: own.median / theirs.median,
    low: own.low / theirs.high,
    high: own.high / theirs.low,
    level,
  };
}

interface Judgement {
  readonly verdict: Verdict;
  readonly reason: string;
}

const notComparable = (reason: string): Judgement => ({ verdict: 'NOT COMPARABLE', reason });

function verdictOf(
  claim: Claim,
  found: readonly (Point | undefined)[],
  measured: Measured | string,
  conditions: Conditions,
): Judgement {
  if (found.includes(undefined)) return notComparable('its point is not part of the profile that was run');
  const failed = found.find((point) => point?.status === 'failed');
  if (failed !== undefined) {
    return { verdict: 'FAIL', reason: `the point failed: ${failed.reasons[0] ?? 'see its log'}` };
  }
  if (found.some((point) => point?.status === 'pending')) return notComparable('not measured yet');
  const why = whyNotJudged(claim, conditions);
  if (why !== undefined) return notComparable(why);
  const invalid = found.find((point) => point?.status === 'invalid');
  if (invalid !== undefined) return notComparable(invalid.reasons[0] ?? 'the point is invalid');
  if (typeof measured === 'string') {
    return measured.startsWith('no straight line')
      ? { verdict: 'FAIL', reason: measured }
      : notComparable(measured);
  }
  return judgeInterval(claim, measured);
}

/** PASS when the whole interval is within the tolerance, FAIL when all of it is outside. */
function judgeInterval(claim: Claim, { low, high, level, beside }: Measured): Judgement {
  const { direction, published, tolerance } = claim;
  const floor = direction === 'at-most' ? 0 : published * (1 - tolerance);
  const ceiling = direction === 'at-least' ? Infinity : published * (1 + tolerance);
  const wanted = {
    'at-least': `at least ${digits(floor)}`,
    'at-most': `at most ${digits(ceiling)}`,
    within: `from ${digits(floor)} to ${digits(ceiling)}`,
  }[direction];
  const seen = `${digits(low)} to ${digits(high)}`;
  if (level === 'none') return notComparable(`a single sample has no interval (${digits(low)})`);
  const reason = `${seen}; needed ${wanted}${beside === undefined ? '' : `; ${beside}`}`;
  if (low >= floor && high <= ceiling) return { verdict: 'PASS', reason };
  if (high < floor || low > ceiling) return { verdict: 'FAIL', reason };
  return notComparable(
    `the interval ${seen} lies across the bound (needed ${wanted}): measure with more boots`,
  );
}

/** Three significant digits, without an exponent. */
function digits(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toPrecision(3);
}
