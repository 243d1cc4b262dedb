import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { isNativeError } from 'node:util/types';
import { errnoOf } from '../errors.js';
import { orAbort } from '../wait.js';

/** What one mirror answered, in words for the final error. */
export interface Failure {
  /** `unreachable`: no HTTP answer; `refused`: one that is not the package; `corrupt`: other bytes than the lock's. */
  readonly kind: 'unreachable' | 'refused' | 'corrupt';
  readonly answer: string;
  /** Asking the same mirror again may help. */
  readonly transient: boolean;
}

export interface Expected {
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface DownloadOptions {
  readonly signal: AbortSignal;
  /** Gives up when no byte came for so long. */
  readonly idleMs: number;
  readonly onBytes: (bytes: number) => void;
}

/**
 * Fetches `url` into `file`, hashing as it comes.
 * @returns undefined when the file now holds exactly what was expected.
 * @throws the signal's reason, or the file system's error; never for what the network does.
 */
export async function download(
  url: string,
  file: string,
  expected: Expected,
  { signal, idleMs, onBytes }: DownloadOptions,
): Promise<Failure | undefined> {
  const idle = new AbortController();
  const patience = setTimeout(() => {
    idle.abort(new DOMException('no answer in time', 'TimeoutError'));
  }, idleMs);
  const hash = createHash('sha256');
  let bytes = 0;
  const output = await open(file, 'w');
  let chunks: Chunks | Failure | undefined;
  try {
    chunks = await request(url, AbortSignal.any([signal, idle.signal]));
    if ('kind' in chunks) return chunks;
    for (;;) {
      const chunk = await chunks.next();
      patience.refresh();
      if (chunk === undefined) break;
      if ('kind' in chunk) return chunk;
      bytes += chunk.bytes.length;
      if (bytes > expected.sizeBytes) return corrupt(`more than the lock's ${expected.sizeBytes} bytes`);
      hash.update(chunk.bytes);
      await output.writeFile(chunk.bytes);
      onBytes(chunk.bytes.length);
    }
    if (bytes < expected.sizeBytes) {
      return { kind: 'corrupt', answer: `${bytes} of ${expected.sizeBytes} bytes`, transient: true };
    }
    const sha256 = hash.digest('hex');
    return sha256 === expected.sha256 ? undefined : corrupt(`sha256 ${sha256}`);
  } finally {
    clearTimeout(patience);
    if (chunks !== undefined && 'close' in chunks) chunks.close();
    await output.close();
    signal.throwIfAborted();
  }
}

interface Chunks {
  readonly next: () => Promise<{ readonly bytes: Uint8Array } | Failure | undefined>;
  /** Ends the connection if something is still to come. */
  readonly close: () => void;
}

async function request(url: string, signal: AbortSignal): Promise<Chunks | Failure> {
  let response: Response;
  try {
    // Packages must arrive as they are: a proxy that recompresses would change the bytes.
    response = await orAbort(fetch(url, { signal, headers: { 'accept-encoding': 'identity' } }), signal);
  } catch (error) {
    return unreachable(error);
  }
  if (!response.ok || response.body === null) {
    await response.body?.cancel().catch(() => undefined);
    return { kind: 'refused', answer: `HTTP ${response.status}`, transient: response.status >= 500 };
  }
  const reader = response.body.getReader();
  return {
    next: async () => {
      try {
        // Under load, Node 20's fetch() forgets its signal: read() then waits for ever, and so would Ctrl-C.
        const result = await orAbort(reader.read(), signal);
        return result.done ? undefined : { bytes: result.value as Uint8Array };
      } catch (error) {
        // Cut in the middle: what came may be right, but it is not all.
        return { ...unreachable(error), kind: 'refused' };
      }
    },
    close: () => {
      reader.cancel().catch(() => undefined);
    },
  };
}

function unreachable(error: unknown): Failure {
  // fetch() hides what happened in the cause.
  const cause = isNativeError(error) && isNativeError(error.cause) ? error.cause : error;
  const message = isNativeError(cause) || cause instanceof DOMException ? cause.message : String(cause);
  return { kind: 'unreachable', answer: errnoOf(cause) ?? message, transient: true };
}

function corrupt(answer: string): Failure {
  return { kind: 'corrupt', answer, transient: false };
}
