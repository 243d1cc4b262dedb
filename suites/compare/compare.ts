import type { Figure, Point, Results, Sample } from '../schema/results.js';
import { loadResults } from '../schema/load.js';
import { placed } from '../judge/samples.js';
import { seededRandom } from '../plan/random.js';
import { ratioFigure } from '../statistics/bootstrap.js';

/** A difference smaller than this is of no interest, however certain. */
export const smallestDifference = 0.05;

export type Difference = 'faster' | 'slower' | 'no significant difference' | 'NOT COMPARABLE';

/** B against A at one point. */
export interface ComparedPoint {
  readonly point: string;
  /** Requests/s of B ÷ requests/s of A; null when one of them has no figure. */
  readonly requestsPerSecond: Figure | null;
  /** The same per CPU used. */
  readonly requestsPerSecondPerCpu: Figure | null;
  /** p99 of B ÷ p99 of A; a ratio of the two values, without an interval of its own. */
  readonly p99: number | null;
  readonly difference: Difference;
  readonly reason: string;
}

export interface Comparison {
  readonly a: string;
  readonly b: string;
  /** Why nothing may be compared; empty when something may. */
  readonly incomparable: readonly string[];
  readonly points: readonly ComparedPoint[];
  /** How far from 1 a ratio of two equal contenders came in either run; null when neither has an A/A pair. */
  readonly noise: number | null;
  /** Exit code 1: B is slower somewhere, or the two cannot be compared. */
  readonly failed: boolean;
}

/**
 * Compares two runs, point by point, keyed on what decides whether figures mean the same.
 * @param a Directory of the run that is the yardstick.
 * @param b Directory of the run that is judged.
 * @throws FastioError INPUT_INVALID when one is not a run.
 */
export async function compareRuns(a: string, b: string): Promise<Comparison> {
  const [first, second] = [await loadResults(a), await loadResults(b)];
  return { ...compareResults(first, second), a, b };
}

/** As `compareRuns`, for results that are already there. */
export function compareResults(a: Results, b: Results): Omit<Comparison, 'a' | 'b'> {
  const incomparable = differencesOf(a, b);
  const noise = noiseOf(a, b);
  if (incomparable.length > 0) return { incomparable, points: [], noise, failed: true };
  const others = new Map(b.points.map((point) => [point.id, point]));
  const points = a.points.flatMap((point) => {
    const other = others.get(point.id);
    return other === undefined ? [] : [comparePoint(point, other, { a, b, noise })];
  });
  if (points.length === 0) {
    return { incomparable: ['the two runs have no point in common'], points, noise, failed: true };
  }
  return { incomparable, points, noise, failed: points.some(({ difference }) => difference === 'slower') };
}

/** Facts that must agree before a figure of one run may be set beside one of another. */
function differencesOf(a: Results, b: Results): readonly string[] {
  const facts = (results: Results): Readonly<Record<string, unknown>> => ({
    clock: results.clock.name,
    'cost profile': results.clock.costProfile,
    'cost model': results.clock.description,
    accelerator: results.accel,
    architecture: results.arch,
    'guest kernel': results.fingerprint.guest['kernelRelease'],
    'kernel command line': results.fingerprint.guest['commandLine'],
    'guest CPUs': results.fingerprint.guest['cpus'],
    QEMU: results.fingerprint.guest['qemuVersion'],
    ...(results.clock.name === 'virtual'
      ? {}
      : {
          'host CPU': results.fingerprint.host['cpuModel'],
          'host CPUs': results.fingerprint.host['cpus'],
          governor: results.fingerprint.host['governor'],
        }),
  });
  const [ofA, ofB] = [facts(a), facts(b)];
  return Object.keys(ofA)
    .filter((key) => ofA[key] !== ofB[key])
    .map((key) => `${key}: A has ${shown(ofA[key])}, B has ${shown(ofB[key])}`);
}

const shown = (value: unknown): string =>
  value === undefined || value === null ? 'none' : JSON.stringify(value);

interface Pair {
  readonly a: Results;
  readonly b: Results;
  readonly noise: number | null;
}

function comparePoint(a: Point, b: Point, pair: Pair): ComparedPoint {
  const random = seededRandom(`${pair.a.seed}/${pair.b.seed}/${a.id}`);
  const ratio = (metric: (sample: Sample) => number | null): Figure | null =>
    ratioFigure(placed(b.samples, metric), placed(a.samples, metric), random, false) ?? null;
  const requestsPerSecond = ratio((sample) => sample.requestsPerSecond);
  const requestsPerSecondPerCpu = ratio((sample) => sample.requestsPerSecondPerCpu);
  const [p99A, p99B] = [a.summary?.p99Ns?.median, b.summary?.p99Ns?.median];
  const p99 = p99A === undefined || p99B === undefined ? null : p99B / p99A;
  return {
    point: a.id,
    requestsPerSecond,
    requestsPerSecondPerCpu,
    p99,
    ...differenceOf(a, b, requestsPerSecond, pair),
  };
}

function differenceOf(
  a: Point,
  b: Point,
  ratio: Figure | null,
  { noise }: Pair,
): { readonly difference: Difference; readonly reason: string } {
  const bad = [a, b].find(({ status }) => status !== 'ok');
  if (bad !== undefined) {
    const which = bad === a ? 'A' : 'B';
    const reason = `${bad.status} in ${which}: ${bad.reasons[0] ?? 'no figures'}`;
    // That a point stopped working is a result; that it never worked is none.
    return { difference: a.status === 'ok' && b.status === 'failed' ? 'slower' : 'NOT COMPARABLE', reason };
  }
  if (ratio === null) return { difference: 'NOT COMPARABLE', reason: 'no figures' };
  if (ratio.level === 'none') {
    return { difference: 'NOT COMPARABLE', reason: 'a single sample has no interval' };
  }
  const band = Math.max(smallestDifference, noise ?? 0);
  const text = `interval ${ratio.low.toFixed(3)} to ${ratio.high.toFixed(3)}, band ±${(band * 100).toFixed(1)} %`;
  if (ratio.low > 1 && ratio.median > 1 + band) return { difference: 'faster', reason: text };
  if (ratio.high < 1 && ratio.median < 1 - band) return { difference: 'slower', reason: text };
  return { difference: 'no significant difference', reason: text };
}

/** How far from 1 a ratio of two equal contenders came in either run. */
function noiseOf(a: Results, b: Results): number | null {
  const bands = [...a.noise, ...b.noise].map(({ ratio }) => Math.max(ratio.high - 1, 1 - ratio.low));
  return bands.length === 0 ? null : Math.max(...bands);
}
