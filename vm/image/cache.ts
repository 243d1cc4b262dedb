import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, FastioError } from '../errors.js';
import { cacheDir } from '../paths.js';
import { until } from '../wait.js';
import { explainFull } from './disk.js';
import { ownerState, ownerToken, parseToken } from './owner.js';

/** Leftovers of processes we cannot see (another container's) are swept only when this old. */
const foreignLeftoverMs = 24 * 3600 * 1000;

/** Makes and returns a directory of the cache. @throws FastioError CACHE_UNREADABLE. */
export async function cachePath(...segments: readonly string[]): Promise<string> {
  const path = join(cacheDir(), ...segments);
  try {
    await mkdir(path, { recursive: true });
    await readdir(path);
  } catch (error) {
    throw explainCache(error, path);
  }
  return path;
}

/** Turns a refusal by the file system into CACHE_UNREADABLE; everything else passes unchanged. */
export function explainCache(error: unknown, path: string): unknown {
  const errno = errnoOf(error);
  if (
    errno === undefined ||
    !['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'EIO', 'ELOOP'].includes(errno)
  ) {
    return error;
  }
  return new FastioError(
    'CACHE_UNREADABLE',
    `the cache cannot be used: ${path}: ${errno}`,
    `Make ${cacheDir()} a directory you can read and write, or set FASTIO_CACHE to one.`,
    { cause: error },
  );
}

/** A sibling of `path` that the sweep removes when this process dies before renaming it. */
export function tempBeside(path: string): string {
  tempCount += 1;
  return `${path}.tmp-${ownerToken()}-${tempCount}`;
}
let tempCount = 0;

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw explainCache(error, path);
  }
}

/**
 * Makes the directory `path` unless it is there: `make` fills a temporary sibling, which is renamed when complete,
 * so that whatever exists is whole. Of several processes that want it, one works and the others wait for it.
 * @returns whether this call made it.
 */
export async function makeOnce(
  path: string,
  signal: AbortSignal,
  make: (temp: string) => Promise<void>,
): Promise<boolean> {
  for (;;) {
    if (await isIntact(path)) return false;
    await sweep(dirname(path));
    await using lock = await tryLock(`${path}.lock`);
    if (lock === undefined) {
      await until(async () => !(await isLocked(`${path}.lock`)), { everyMs: 100, signal });
      continue;
    }
    // Whoever held the lock before us may have finished in between.
    if (await isIntact(path)) return false;
    // What is there but not intact must go first: a directory cannot be renamed onto one that holds files.
    await removeWhole(path);
    const temp = tempBeside(path);
    try {
      await mkdir(temp);
      await make(temp);
      signal.throwIfAborted();
      await recordSizes(temp);
      return await publish(temp, path);
    } catch (error) {
      throw explainFull(error, path);
    } finally {
      await rm(temp, { recursive: true, force: true });
    }
  }
}

const sizesName = '.sizes.json';

/** Notes the sizes of the files right below `directory`, so that a truncated one is found without reading it. */
async function recordSizes(directory: string): Promise<void> {
  const sizes: Record<string, number> = {};
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isFile()) sizes[entry.name] = (await stat(join(directory, entry.name))).size;
  }
  await writeFile(join(directory, sizesName), JSON.stringify(sizes));
}

/** Whether `makeOnce` finished this directory and nothing in it was lost since, as far as sizes tell. */
async function isIntact(directory: string): Promise<boolean> {
  try {
    const sizes = JSON.parse(await readFile(join(directory, sizesName), 'utf8')) as Record<string, number>;
    for (const [name, size] of Object.entries(sizes)) {
      if ((await stat(join(directory, name))).size !== size) return false;
    }
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) return false;
    throw explainCache(error, directory);
  }
}

/** Removes a directory or file of the cache so that nobody ever sees half of it. */
export async function removeWhole(path: string): Promise<void> {
  const temp = tempBeside(path);
  try {
    await rename(path, temp);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw explainCache(error, path);
  }
  await rm(temp, { recursive: true, force: true });
}

/** Removes temporary files and locks in `directory` whose owners were killed before they could. */
export async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (name.endsWith('.lock')) await isLocked(path);
    const suffix = /\.tmp-(.*)$/.exec(name)?.[1];
    const owner = suffix === undefined ? undefined : parseToken(suffix);
    if (owner === undefined) continue;
    const state = ownerState(owner);
    if (state === 'dead' || (state === 'unknown' && (await ageMs(path)) > foreignLeftoverMs)) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

async function publish(temp: string, path: string): Promise<boolean> {
  try {
    await rename(temp, path);
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    // A process of another pid namespace was faster; what it made is as good as ours.
    if (errno === 'ENOTEMPTY' || errno === 'EEXIST') return false;
    throw error;
  }
}

async function tryLock(path: string): Promise<AsyncDisposable | undefined> {
  try {
    const file = await open(path, 'wx');
    await file.writeFile(ownerToken());
    await file.close();
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return undefined;
    throw explainCache(error, path);
  }
  return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
}

/** Whether somebody holds the lock; one left by a dead process is removed. */
async function isLocked(path: string): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch {
    return false;
  }
  const owner = parseToken(text);
  const state = owner === undefined ? 'unknown' : ownerState(owner);
  if (state === 'alive') return true;
  // An empty one is being written this moment, or its writer was killed in between.
  const limitMs = owner === undefined ? 5_000 : foreignLeftoverMs;
  if (state === 'unknown' && (await ageMs(path)) < limitMs) return true;
  await rm(path, { force: true });
  return false;
}

async function ageMs(path: string): Promise<number> {
  try {
    return Date.now() - (await stat(path)).mtimeMs;
  } catch {
    return 0;
  }
}
