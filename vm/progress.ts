/** What long work tells whoever watches it. Renderers in cli/ must cover every kind to compile. */
export type Progress =
  | { readonly kind: 'stage'; readonly name: string; readonly detail?: string }
  | {
      /** Bytes moved so far in a named transfer; `totalBytes` is 0 while unknown. */
      readonly kind: 'transfer';
      readonly name: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
      readonly items?: { readonly done: number; readonly total: number };
    }
  | { readonly kind: 'line'; readonly from: 'host' | 'guest' | 'kernel' | 'build'; readonly text: string }
  | { readonly kind: 'warning'; readonly message: string; readonly remedy: string }
  | {
      /** What a measurement is about to do, said once before the first guest boots. */
      readonly kind: 'plan';
      readonly points: number;
      /** Server starts, each of which is measured for several windows. */
      readonly runs: number;
      readonly boots: number;
      /** Wall-clock estimate of the whole. */
      readonly seconds: number;
      readonly seed: number;
    }
  | {
      /** One server start of one point. `index` counts from 1 to `total` in the order they are run. */
      readonly kind: 'run';
      readonly phase: 'started' | 'done' | 'failed' | 'invalid';
      readonly index: number;
      readonly total: number;
      /** The point, as in "fastio x3, 25 connections, 64 B". */
      readonly point: string;
      readonly elapsedSeconds: number;
      readonly remainingSeconds: number;
      /** Why it failed or is invalid. */
      readonly message?: string;
    }
  | {
      /** The table's row for one point, sent again each time its figures change. */
      readonly kind: 'row';
      readonly suite: string;
      /** Identifies the row among those of its run. */
      readonly point: string;
      readonly server: string;
      readonly workers: number;
      readonly connections: number;
      readonly messageBytes: number;
      /** Kind of request, in suites that have several. */
      readonly request?: string;
      readonly requestsPerSecond: ProgressFigure | null;
      readonly requestsPerSecondPerCpu: ProgressFigure | null;
      readonly ratioToBaseline: ProgressFigure | null;
      readonly p50Ns: ProgressFigure | null;
      readonly p99Ns: ProgressFigure | null;
      /** What was published for this point, where a claim names it. */
      readonly publishedRequestsPerSecond: number | null;
      readonly publishedRatio: number | null;
      /** Failed, invalid or not comparable, and why; empty when all is well. */
      readonly note: string;
    };

/** A measured value and its 95 % interval. */
export interface ProgressFigure {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export type Report = (event: Progress) => void;

/** For callers that do not watch. */
export const silent: Report = () => undefined;
