import { setTimeout as sleep } from 'node:timers/promises';
import type { FastioError } from './errors.js';

/** Node's timers hold no more than this many milliseconds: 24 days. */
const longestTimerMs = 2 ** 31 - 1;

/** A signal that aborts with `reason` after `ms`, or after 24 days if that is sooner; combine it with `AbortSignal.any()`. */
export function deadline(ms: number, reason: FastioError): AbortSignal {
  const controller = new AbortController();
  setTimeout(
    () => {
      controller.abort(reason);
    },
    Math.min(ms, longestTimerMs),
  ).unref();
  return controller.signal;
}

export type Probe = (signal: AbortSignal) => Promise<boolean>;
export interface Poll {
  readonly everyMs: number;
  readonly signal: AbortSignal;
}

/** Resolves once `probe` holds; rejects with the signal's own reason when it aborts first. */
export async function until(probe: Probe, { everyMs, signal }: Poll): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    if (await probe(signal)) return;
    await sleep(everyMs, undefined, { signal }).catch(() => {
      signal.throwIfAborted();
    });
  }
}

/** Rejects with the signal's reason as soon as it aborts, else settles as `work` does. */
export async function orAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  // Given up before it began, nobody else will ever hear how it ended.
  work.catch(() => undefined);
  signal.throwIfAborted();
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => {
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
