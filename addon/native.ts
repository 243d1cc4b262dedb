import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { codedError } from './errors.js';
import type { NativeOptions } from './options.js';

export interface NativeSegment {
  /** Of the first byte, in this process. */
  readonly address: number;
  readonly buffer: ArrayBuffer;
}

/** Counters of one queue since set-up; see struct fastio_stats. */
export type QueueStats = Readonly<
  Record<
    | 'submitted'
    | 'completed'
    | 'batches'
    | 'parked'
    | 'ready'
    | 'multishot'
    | 'punted'
    | 'sleeps'
    | 'enters'
    | 'inFlight'
    | 'slots',
    number
  >
>;

/** addon/native/ring.cc. All views are detached by close(). */
export interface NativeRing {
  readonly backend: 'kernel' | 'user';
  readonly workers: number;
  readonly queues: readonly { readonly sq: ArrayBuffer; readonly cq: ArrayBuffer }[];
  readonly map: readonly number[];
  readonly state: ArrayBuffer;
  readonly givenBack: ArrayBuffer;
  readonly owned: ArrayBuffer;
  readonly provided: NativeSegment;
  flush(): void;
  hold(): void;
  release(): void;
  grow(blocks: number): NativeSegment | undefined;
  stats(queue: number): QueueStats;
  close(): void;
}

export interface Endpoint {
  readonly address: string;
  readonly family: 'IPv4' | 'IPv6';
  readonly port: number;
}

/** The functions return a count or -errno. */
export interface Native {
  readonly NativeRing: new (options: NativeOptions, dispatch: () => void) => NativeRing;
  listen(host: string, port: number, backlog: number, reusePort: boolean, ipv6Only: boolean): number;
  endpoint(fd: number, peer: boolean): Endpoint | number;
  shutdown(fd: number): number;
  stopListening(fd: number): number;
  closeNow(fd: number): number;
  setNoDelay(fd: number, on: boolean): number;
  setKeepAlive(fd: number, on: boolean, idleSeconds: number): number;
}

let loaded: Native | undefined;

/**
 * The native half: `$FASTIO_ADDON`, else the prebuilt one for this machine.
 * @throws Error ERR_FASTIO_UNSUPPORTED when there is none for it, ERR_FASTIO_NOT_BUILT when it was not built.
 */
export function loadNative(): Native {
  loaded ??= createRequire(import.meta.url)(nativePath()) as Native;
  return loaded;
}

function nativePath(): string {
  const chosen = process.env['FASTIO_ADDON'];
  if (chosen !== undefined && chosen !== '') return chosen;
  const platform = `${process.platform}-${process.arch}`;
  if (platform !== 'linux-x64' && platform !== 'linux-arm64') {
    throw codedError(
      'ERR_FASTIO_UNSUPPORTED',
      `FastIO runs on linux-x64 and linux-arm64, not on ${platform}`,
    );
  }
  // Beside this file where it was installed or is run from source, else in the tree it was compiled from.
  const here = dirname(fileURLToPath(import.meta.url));
  const candidates = ['prebuilds', '../../addon/prebuilds'].map((directory) =>
    join(here, directory, platform, 'fastio.node'),
  );
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw codedError('ERR_FASTIO_NOT_BUILT', `no ${candidates.join(' and no ')}: run \`npm run addon\``);
}
