import { createReadStream } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { FastioError } from '../errors.js';
import { findDebData } from './deb.js';
import { type Piped, pipeThrough } from './pipe.js';

/** Directories that moved below /usr; what packages still call by the old names goes there. */
export const mergedDirectories = ['bin', 'sbin', 'lib', 'lib64'] as const;

/** As many as this machine's decompressors keep busy; more would only compete. */
const parallelUnpacks = 3;

/** The tar stream inside a .deb. The stream ends with an error when the program that decompresses fails. */
export async function openDeb(path: string, signal: AbortSignal): Promise<Readable> {
  const { compression, offset, sizeBytes } = await findDebData(path);
  const raw = createReadStream(path, { start: offset, end: offset + sizeBytes - 1, highWaterMark: 1 << 18 });
  if (compression === 'none') return raw;
  if (compression === 'gz') return raw.pipe(createGunzip());
  const program = compression === 'xz' ? 'xz' : 'zstd';
  const { stdin, stdout, ended } = pipeThrough([program, '-dc', '-T1'], { signal });
  pipeline(raw, stdin).catch(() => undefined);
  ended.catch((error: unknown) => {
    // Without a listener the event would end the process; whoever reads the stream has its own.
    stdout.on('error', () => undefined).destroy(error as Error);
  });
  return stdout;
}

/**
 * Unpacks packages below `directory`, as the calling user, with /bin, /sbin, /lib and /lib64 merged into /usr. No
 * package's script runs.
 * @param debs paths of .deb files.
 */
export async function unpackDebs(
  debs: readonly string[],
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  for (const name of mergedDirectories) {
    await mkdir(join(directory, 'usr', name), { recursive: true });
    await symlink(`usr/${name}`, join(directory, name));
  }
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const queue = debs.values();
  const worker = async (): Promise<void> => {
    for (const deb of queue) await unpackDeb(deb, directory, either);
  };
  const workers = Array.from({ length: parallelUnpacks }, worker);
  try {
    await Promise.all(workers);
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(workers);
    throw error;
  }
}

async function unpackDeb(path: string, directory: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  // Skipping what is there keeps the links: base-files has them too, and replacing one while another package unpacks
  // through it would leave a directory in its place.
  const flags = ['--keep-directory-symlink', '--skip-old-files', '--no-same-owner', '--no-same-permissions'];
  const tar = pipeThrough(['tar', '--extract', '--file=-', `--directory=${directory}`, ...flags], {
    signal,
  });
  await feed(await openDeb(path, signal), tar);
}

/** Pours `source` into a program and waits for its end. */
async function feed(source: Readable, { stdin, ended }: Piped): Promise<void> {
  try {
    await pipeline(source, stdin);
  } catch (error) {
    // A program that has read all it wants closes its input before the last padding: how it ended decides. One that
    // was cut off by a failing source complains too, but the source knows why.
    if (error instanceof FastioError) throw error;
  }
  await ended;
}
