import { claimsFile, loadClaims } from '../schema/load.js';
import type { SuiteOptions } from './options.js';
import type { Outcome } from './run-suites.js';
import { runSuites } from './run-suites.js';

/** As `SuiteOptions`, the suites being those of the claims unless named. */
export type ReproduceOptions = Omit<SuiteOptions, 'suites'> & {
  readonly suites?: readonly string[];
  /** Suites to measure besides those. */
  readonly also?: readonly string[];
};

export interface Reproduction extends Outcome {
  readonly passed: number;
  /** Exit code 1 when there is one. */
  readonly refuted: number;
  readonly notComparable: number;
}

/**
 * Measures what the claims are about and gives a verdict on each.
 * @throws FastioError as `runSuites`.
 */
export async function reproduce(options: ReproduceOptions): Promise<Reproduction> {
  const { claims } = await loadClaims(options.claimsFile ?? claimsFile);
  const claimed = options.suites ?? claims.map(({ suite }) => suite);
  const suites = [...new Set([...claimed, ...(options.also ?? [])])];
  const outcome = await runSuites({ ...options, suites });
  const count = (verdict: string): number =>
    outcome.results.claims.filter((claim) => claim.verdict === verdict).length;
  return {
    ...outcome,
    passed: count('PASS'),
    refuted: count('FAIL'),
    notComparable: count('NOT COMPARABLE'),
  };
}
