import { statfs } from 'node:fs/promises';
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

/** DISK_FULL for something that ran into the end of the disk although it seemed to fit. */
export function diskFull(directory: string, message: string, options?: ErrorOptions): FastioError {
  return new FastioError(
    'DISK_FULL',
    message,
    `Free some space below ${directory}, or set FASTIO_CACHE to a directory on a larger disk.`,
    options,
  );
}

/** Turns ENOSPC and EDQUOT of a write below `directory` into DISK_FULL; everything else passes unchanged. */
export function explainWrite(error: unknown, directory: string, bytes: number, purpose: string): unknown {
  const errno = errnoOf(error);
  if (errno !== 'ENOSPC' && errno !== 'EDQUOT') return error;
  return diskFull(directory, `the disk filled up: ${purpose} needs ${mebibytes(bytes)} in all`, {
    cause: error,
  });
}

/** For people: 1,234 MiB. */
export function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / (1024 * 1024)).toLocaleString('en')} MiB`;
}
