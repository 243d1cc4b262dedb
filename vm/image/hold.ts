import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, FastioError } from '../errors.js';
import { cachePath } from './cache.js';
import { ownerOf, ownerState, ownerToken, parseToken } from './owner.js';

const marker = '.inuse-';

/**
 * Keeps `fastio clean` from removing an image, its layers and the tools root while `pid` (a keeper's, say) lives.
 * A holder that is killed lets go by dying.
 * @returns lets go.
 * @throws FastioError CACHE_UNREADABLE when the image is not in the cache.
 */
export async function holdImage(id: string, pid: number = process.pid): Promise<() => Promise<void>> {
  const file = join(await cachePath('images'), id, `${marker}${ownerToken(ownerOf(pid))}`);
  try {
    await writeFile(file, '');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new FastioError(
      'CACHE_UNREADABLE',
      `image ${id} was removed from the cache`,
      'Run the command again.',
      {
        cause: error,
      },
    );
  }
  return () => rm(file, { force: true });
}

/** Pids of the processes that hold the image in `directory`; what dead ones left is removed. */
export async function holdersOf(directory: string): Promise<readonly number[]> {
  const holders: number[] = [];
  for (const name of await readdir(directory)) {
    const owner = name.startsWith(marker) ? parseToken(name) : undefined;
    if (owner === undefined) continue;
    if (ownerState(owner) === 'dead') await rm(join(directory, name), { force: true });
    else holders.push(owner.pid);
  }
  return holders;
}
