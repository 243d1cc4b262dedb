import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, FastioError } from '../errors.js';
import { cachePath, explainCache, sweep, tempBeside } from './cache.js';
import { explainFull, mebibytes, requireDisk } from './disk.js';
import { download, type Failure } from './download.js';
import type { Lock, LockedPackage } from './lock.js';
import { mirrorList, type MirrorOptions } from './mirrors.js';
import type { Work } from './work.js';

const parallelDownloads = 8;
/** Rounds over the mirrors; from the second on only those whose failure may pass are asked. */
const rounds = 3;
/** Failures in a row, without a success before, after which a mirror is asked last. */
const patience = 3;
/** Progress is reported at most this often. */
const reportEveryMs = 100;

export interface FetchOptions extends Work, MirrorOptions {
  /** A mirror that sends nothing for so long is given up. Default 30 s. */
  readonly idleMs?: number;
  /** Pause before mirrors are asked once more; it grows with each round. Default 1 s. */
  readonly pauseMs?: number;
}

/** Where a package's .deb is in the cache. */
export type DebOf = (entry: LockedPackage) => string;

/**
 * Makes sure that every package of a lock is in the cache with exactly the lock's bytes: what is there is hashed, what
 * is missing or broken is fetched, from the first mirror that has it.
 * @throws FastioError DISK_FULL (before the first byte), NETWORK, PACKAGE_UNAVAILABLE, PACKAGE_CORRUPT.
 */
export async function fetchPackages(lock: Lock, options: FetchOptions): Promise<DebOf> {
  const store = await cachePath('debs');
  const debOf: DebOf = ({ sha256 }) => join(store, `${sha256}.deb`);
  await sweep(store);
  const missing: LockedPackage[] = [];
  for (const entry of lock.packages) {
    options.signal.throwIfAborted();
    if (!(await isWhole(debOf(entry), entry))) missing.push(entry);
  }
  if (missing.length === 0) return debOf;
  const totalBytes = missing.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  await requireDisk(store, totalBytes, `downloading the packages of ${lock.id}`);
  const mirrors = mirrorList(lock.snapshot, options).map((base) => ({ base, failures: 0, works: false }));
  const progress = startProgress(lock.id, missing.length, totalBytes, options.report);
  const stop = new AbortController();
  const context: FetchContext = {
    lock,
    mirrors,
    progress,
    debOf,
    idleMs: options.idleMs ?? 30_000,
    pauseMs: options.pauseMs ?? 1_000,
    signal: AbortSignal.any([options.signal, stop.signal]),
  };
  const queue = missing.values();
  const worker = async (): Promise<void> => {
    for (const entry of queue) await fetchOne(entry, context);
  };
  const workers = Array.from({ length: parallelDownloads }, worker);
  try {
    await Promise.all(workers);
  } catch (error) {
    // The first failure decides; the others end before anybody hears of it, so that nothing writes afterwards.
    stop.abort(error);
    await Promise.allSettled(workers);
    throw explainFull(error, join(store, `${lock.id}: ${mebibytes(totalBytes)} of packages`));
  }
  progress.end();
  return debOf;
}

interface Mirror {
  readonly base: string;
  failures: number;
  works: boolean;
}

interface FetchContext {
  readonly lock: Lock;
  readonly mirrors: readonly Mirror[];
  readonly progress: ReturnType<typeof startProgress>;
  readonly debOf: DebOf;
  readonly idleMs: number;
  readonly pauseMs: number;
  readonly signal: AbortSignal;
}

async function fetchOne(entry: LockedPackage, context: FetchContext): Promise<void> {
  const { mirrors, progress, signal } = context;
  const file = context.debOf(entry);
  const answers = new Map<Mirror, Failure>();
  const mayPass = (mirror: Mirror): boolean => {
    const failure = answers.get(mirror);
    // A mirror that never answered anybody is not worth another wait for its time-out.
    return failure === undefined || (failure.transient && (failure.kind !== 'unreachable' || mirror.works));
  };
  for (let round = 0; round < rounds && mirrors.some(mayPass); round += 1) {
    if (round > 0) await sleep(round * context.pauseMs, undefined, { signal }).catch(() => undefined);
    const isLast = (mirror: Mirror): boolean => !mirror.works && mirror.failures >= patience;
    const order = [...mirrors.filter((mirror) => !isLast(mirror)), ...mirrors.filter(isLast)];
    for (const mirror of order) {
      if (!mayPass(mirror)) continue;
      signal.throwIfAborted();
      const temp = tempBeside(file);
      const attempt = progress.attempt();
      try {
        const failure = await download(`${mirror.base}/${encodePath(entry.poolPath)}`, temp, entry, {
          signal,
          idleMs: context.idleMs,
          onBytes: attempt.add,
        });
        if (failure === undefined) {
          await rename(temp, file);
          mirror.works = true;
          progress.done();
          return;
        }
        attempt.undo();
        mirror.failures += 1;
        answers.set(mirror, failure);
      } catch (error) {
        throw explainCache(error, file);
      } finally {
        await rm(temp, { force: true });
      }
    }
  }
  throw explainFailure(entry, context.lock, answers);
}

function explainFailure(
  entry: LockedPackage,
  lock: Lock,
  answers: ReadonlyMap<Mirror, Failure>,
): FastioError {
  const failures = [...answers.values()];
  const name = `${entry.name} ${entry.version} (${entry.arch})`;
  const detail = [...answers].map(([{ base }, { answer }]) => `${base}: ${answer}`);
  if (failures.every(({ kind }) => kind === 'unreachable')) {
    return new FastioError(
      'NETWORK',
      `no mirror could be reached for ${name}`,
      'Connect to the network, or set FASTIO_MIRROR to a mirror of Debian that can be reached.',
      { detail },
    );
  }
  if (failures.some(({ kind }) => kind === 'corrupt')) {
    return new FastioError(
      'PACKAGE_CORRUPT',
      `no mirror has ${name} with the bytes that ${lock.id}.lock names (sha256 ${entry.sha256})`,
      'Use another mirror (FASTIO_MIRROR), or check vm/image/locks against the repository.',
      { detail },
    );
  }
  return new FastioError(
    'PACKAGE_UNAVAILABLE',
    `no mirror has ${name}`,
    `Set FASTIO_MIRROR to a mirror that has it, or make a new lock: fastio image lock ${lock.id}`,
    { detail },
  );
}

async function isWhole(file: string, entry: LockedPackage): Promise<boolean> {
  try {
    if ((await stat(file)).size !== entry.sizeBytes) return false;
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }))
      hash.update(chunk as Buffer);
    return hash.digest('hex') === entry.sha256;
  } catch (error) {
    // A path that cannot be read where a file should be (a directory, no permission) will not get better by fetching.
    if (errnoOf(error) === 'ENOENT') return false;
    throw explainCache(error, file);
  }
}

/** `+`, `~` and `:` stay as they are: servers take them, and snapshots know no other spelling. */
function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/').replaceAll('%2B', '+').replaceAll('%3A', ':');
}

function startProgress(
  name: string,
  total: number,
  totalBytes: number,
  report: Work['report'],
): { attempt: () => { add: (bytes: number) => void; undo: () => void }; done: () => void; end: () => void } {
  let items = 0;
  let doneBytes = 0;
  let reportedAt = 0;
  const tell = (): void => {
    reportedAt = Date.now();
    report({ kind: 'transfer', name, doneBytes, totalBytes, items: { done: items, total } });
  };
  return {
    attempt: () => {
      let bytes = 0;
      return {
        add: (count) => {
          bytes += count;
          doneBytes += count;
          if (Date.now() - reportedAt >= reportEveryMs) tell();
        },
        undo: () => {
          doneBytes -= bytes;
        },
      };
    },
    done: () => {
      items += 1;
    },
    end: tell,
  };
}
