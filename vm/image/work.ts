import type { Report } from '../progress.js';

/** What every long piece of work takes: whom to tell, and when to stop. */
export interface Work {
  readonly report: Report;
  readonly signal: AbortSignal;
}
