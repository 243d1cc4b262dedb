import { randomBytes } from 'node:crypto';
import { access, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError, errnoOf } from '../vm/errors.js';
import { cacheDir } from '../vm/paths.js';

/**
 * Outputs of builds by the hash of everything that went into them. An entry appears whole, by rename, or not at all;
 * of two equal builds that finish at once one wins and both see the same files.
 */
export function buildsDir(): string {
  return join(cacheDir(), 'builds');
}

/** The finished outputs of `key`, or undefined when they have to be made. */
export async function cachedBuild(key: string): Promise<string | undefined> {
  const entry = join(buildsDir(), key);
  try {
    await access(join(entry, 'done'));
    return entry;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new FastioError(
      'CACHE_UNREADABLE',
      `${entry}: ${errnoOf(error) ?? String(error)}`,
      'Give yourself access to the cache, or set FASTIO_CACHE to another directory.',
      { cause: error },
    );
  }
}

/** An empty directory for one build; `sweepScratch` removes it when its process died before it could. */
export async function scratchDir(): Promise<string> {
  const parent = join(cacheDir(), 'tmp');
  await mkdir(parent, { recursive: true });
  await sweepScratch(parent);
  const scratch = join(parent, `build-${process.pid}-${randomBytes(4).toString('hex')}`);
  await mkdir(scratch);
  return scratch;
}

/** Publishes a filled directory as the outputs of `key` and returns where they are now. */
export async function publishBuild(directory: string, key: string): Promise<string> {
  const entry = join(buildsDir(), key);
  await mkdir(buildsDir(), { recursive: true });
  await writeFile(join(directory, 'done'), '');
  try {
    await rename(directory, entry);
  } catch (error) {
    // Somebody built the same thing in the meantime: theirs is as good.
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error;
    await rm(directory, { recursive: true, force: true });
  }
  return entry;
}

async function sweepScratch(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = Number(/^build-(\d+)-/.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(pid) || isAlive(pid)) continue;
    await rm(join(parent, name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}
