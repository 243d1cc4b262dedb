import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, FastioError } from '../errors.js';

/** Kept free on top of what a piece of work writes, so that it does not fill the disk to the last byte. */
const marginBytes = 64 * 1024 * 1024;

/**
 * Refuses work that would not fit, before it starts.
 * @param bytes what the work will write below `directory`, which must exist.
 * @throws FastioError DISK_FULL with both figures.
 */
export async function requireDisk(directory: string, bytes: number, purpose: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  if (freeBytes >= bytes + marginBytes) return;
  throw diskFull(
    directory,
    `${purpose} needs ${mebibytes(bytes + marginBytes)}, and ${directory} has ${mebibytes(freeBytes)} free`,
  );
}

function diskFull(directory: string, message: string, options?: ErrorOptions): FastioError {
  return new FastioError(
    'DISK_FULL',
    message,
    `Free some space below ${directory}, or set FASTIO_CACHE to a directory on a larger disk.`,
    options,
  );
}

/**
 * Turns a full disk, as a system call's errno or in a program's last words, into DISK_FULL; everything else passes
 * unchanged. For work that seemed to fit when it started.
 * @param path what could not be written; the name of a temporary file is shortened to the one it stands for.
 */
export function explainFull(error: unknown, path: string): unknown {
  const errno = errnoOf(error);
  const lines = error instanceof FastioError ? error.detail : [];
  const isFull =
    errno === 'ENOSPC' ||
    errno === 'EDQUOT' ||
    lines.some((line) => /no space left on device|disk quota exceeded/i.test(line));
  if (!isFull) return error;
  const place = path.replace(/\.tmp-.*$/, '');
  return diskFull(dirname(place), `the disk filled up while ${place} was being made`, { cause: error });
}

/** For people: 1,234 MiB. */
export function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / (1024 * 1024)).toLocaleString('en')} MiB`;
}
