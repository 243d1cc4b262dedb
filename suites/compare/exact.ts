import { FastioError } from '../../vm/errors.js';
import { loadResults } from '../schema/load.js';
import type { Point, Results } from '../schema/results.js';

/** One figure that differs, as JSON. */
export interface ExactDifference {
  readonly point: string;
  /** Such as `summary.p99Ns.median`. */
  readonly figure: string;
  readonly a: string;
  readonly b: string;
}

export interface ExactComparison {
  readonly a: string;
  readonly b: string;
  /** Points of both. */
  readonly compared: number;
  readonly onlyInA: readonly string[];
  readonly onlyInB: readonly string[];
  readonly differences: readonly ExactDifference[];
  /** Exit code 1: a figure differs, or a point is gone. */
  readonly failed: boolean;
}

/**
 * Compares two runs in virtual time figure by figure. There is no noise in them: whatever differs was changed by the
 * programs or their inputs.
 * @param a Directory of the run that is the yardstick.
 * @param b Directory of the run that is judged.
 * @throws FastioError INPUT_INVALID when one is not a run, or not one in virtual time.
 */
export async function compareExactly(a: string, b: string): Promise<ExactComparison> {
  return { ...exactDifferences(virtual(await loadResults(a), a), virtual(await loadResults(b), b)), a, b };
}

function virtual(results: Results, directory: string): Results {
  if (results.clock.name === 'virtual') return results;
  throw new FastioError(
    'INPUT_INVALID',
    `${directory}: clock: found ${results.clock.name}, expected virtual`,
    'Compare wall-clock runs without --exact: their figures have noise.',
  );
}

/** As `compareExactly`, for results that are already there. */
export function exactDifferences(a: Results, b: Results): Omit<ExactComparison, 'a' | 'b'> {
  const [first, second] = [byId(a), byId(b)];
  const onlyInA = [...first.keys()].filter((id) => !second.has(id));
  const onlyInB = [...second.keys()].filter((id) => !first.has(id));
  const differences = [...first].flatMap(([id, point]) => {
    const other = second.get(id);
    return other === undefined ? [] : differ(id, figuresOf(point), figuresOf(other));
  });
  const failed = differences.length > 0 || onlyInA.length > 0;
  return { compared: first.size - onlyInA.length, onlyInA, onlyInB, differences, failed };
}

function byId({ points }: Results): ReadonlyMap<string, Point> {
  return new Map(points.map((point) => [point.id, point]));
}

/** What was found out about a point, without what describes it. */
function figuresOf({ status, samples, summary, errors }: Point): unknown {
  return { status, errors, summary, samples };
}

function differ(point: string, a: unknown, b: unknown): readonly ExactDifference[] {
  const [first, second] = [flatten(a), flatten(b)];
  const names = [...new Set([...first.keys(), ...second.keys()])];
  return names.flatMap((figure) => {
    const [found, other] = [first.get(figure) ?? 'nothing', second.get(figure) ?? 'nothing'];
    return found === other ? [] : [{ point, figure, a: found, b: other }];
  });
}

/** Leaves of a JSON value by their path. */
function flatten(value: unknown, path = ''): ReadonlyMap<string, string> {
  if (typeof value !== 'object' || value === null) return new Map([[path, JSON.stringify(value)]]);
  const entries = Object.entries(value).flatMap(([key, part]) => [
    ...flatten(part, path === '' ? key : `${path}.${key}`),
  ]);
  return new Map(entries);
}
