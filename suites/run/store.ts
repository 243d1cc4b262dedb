import { createHash, randomBytes } from 'node:crypto';
import { appendFile, copyFile, mkdir, open, readFile, readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FastioError, errnoOf } from '../../vm/errors.js';
import type { Results } from '../schema/results.js';
import { checkSource, readJson } from '../schema/source.js';
import { RunRecord } from './record.js';

/** The directory given as --out. Every file in it is replaced whole or not at all. */
export interface Store {
  readonly directory: string;
  /** Finished runs, by id; failed ones among them only while nobody resumed. */
  readonly records: Map<string, RunRecord>;
  readonly saveRecord: (record: RunRecord) => Promise<void>;
  readonly saveResults: (results: Results) => Promise<void>;
  /** Adds a boot's kernel log and console to kernel.log and console.log, under a heading. */
  readonly saveLogs: (heading: string, logs: { kernel: string; console: string }) => Promise<void>;
  /** Writes the output of a run's server and generator to logs/. */
  readonly saveRunLog: (runId: string, text: string) => Promise<void>;
  /** Writes where a run's time went to profiles/. */
  readonly saveProfile: (runId: string, text: string) => Promise<void>;
}

/**
 * Makes the directory, or opens it to resume.
 * @throws FastioError INPUT_INVALID when it holds another run and `resume` is false, or none and it is true.
 */
export async function openStore(directory: string, resume: boolean): Promise<Store> {
  const raw = join(directory, 'raw');
  const isRun = await exists(join(directory, 'results.json'));
  if (isRun && !resume) {
    throw new FastioError(
      'INPUT_INVALID',
      `${directory}: found the results of another run, expected an empty directory`,
      'Give another --out, or --resume to go on with that run.',
    );
  }
  if (!isRun && resume) {
    throw new FastioError(
      'INPUT_INVALID',
      `${directory}: found no results.json, expected the directory of an interrupted run`,
      'Start without --resume.',
    );
  }
  await writable(mkdir(raw, { recursive: true }), directory);
  await mkdir(join(directory, 'logs'), { recursive: true });
  await sweep(directory);
  await sweep(raw);
  const records = new Map<string, RunRecord>();
  for (const record of await readRecords(directory)) records.set(record.id, record);
  return {
    directory,
    records,
    saveRecord: async (record) => {
      await writeAtomically(join(raw, `${record.id}.json`), `${JSON.stringify(record)}\n`);
      records.set(record.id, record);
    },
    saveResults: (results) =>
      writeAtomically(join(directory, 'results.json'), `${JSON.stringify(results, undefined, 1)}\n`),
    saveLogs: async (heading, { kernel, console: text }) => {
      await appendFile(join(directory, 'kernel.log'), `==> ${heading}\n${kernel.trimEnd()}\n`);
      await appendFile(join(directory, 'console.log'), `==> ${heading}\n${text.trimEnd()}\n`);
    },
    saveRunLog: (runId, text) => writeAtomically(join(directory, 'logs', `${runId}.log`), text),
    saveProfile: async (runId, text) => {
      await mkdir(join(directory, 'profiles'), { recursive: true });
      await writeAtomically(join(directory, 'profiles', `${runId}.txt`), text);
    },
  };
}

/**
 * The raw records of a run.
 * @throws FastioError INPUT_INVALID when one is damaged.
 */
export async function readRecords(directory: string): Promise<readonly RunRecord[]> {
  const raw = join(directory, 'raw');
  const names = await readdir(raw).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  const records: RunRecord[] = [];
  for (const name of names.filter((one) => one.endsWith('.json')).sort()) {
    records.push(checkSource(await readJson(join(raw, name)), RunRecord));
  }
  return records;
}

/** Replaces a file: a reader, or a run killed in between, sees the old content or the new. */
export async function writeAtomically(file: string, text: string): Promise<void> {
  const temporary = `${file}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx');
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    await writable(Promise.reject(error as Error), file);
  }
}

/** Names the two ways a result directory fails its user. */
async function writable<T>(work: Promise<T>, path: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new FastioError(
        'DISK_FULL',
        `${path}: no space left`,
        'Free some space and resume with --resume.',
        {
          cause: error,
        },
      );
    }
    if (code === 'EACCES' || code === 'EROFS' || code === 'ENOTDIR' || code === 'EEXIST') {
      throw new FastioError('USAGE', `${path}: cannot be written (${code})`, 'Give another --out.', {
        cause: error,
      });
    }
    throw error;
  }
}

/** Below --out: the suites and claims of the run, so that it can be judged again without the project's tree. */
export const inputsDir = 'inputs';
export const claimsName = 'claims.yaml';

export interface Inputs {
  /** Files copied to the top of the directory under their own names. */
  readonly files: readonly string[];
  /** Suites by name. */
  readonly suites: readonly { readonly name: string; readonly file: string }[];
  readonly claims: string;
}

/** Copies the files that decide what a run was made with. */
export async function copyInputs(directory: string, { files, suites, claims }: Inputs): Promise<void> {
  const inputs = join(directory, inputsDir);
  await mkdir(inputs, { recursive: true });
  for (const file of files) await copyFile(file, join(directory, basename(file)));
  for (const { name, file } of suites) await copyFile(file, join(inputs, `${name}.yaml`));
  await copyFile(claims, join(inputs, claimsName));
}

/** One hash over several files, by content and in the order given. */
export async function hashFiles(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) hash.update(await readFile(file)).update('\0');
  return hash.digest('hex');
}

async function exists(file: string): Promise<boolean> {
  try {
    await (await open(file)).close();
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return false;
    throw error;
  }
}

/** Leftovers of a run killed while writing. */
async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.endsWith('.tmp')) await rm(join(directory, name), { force: true });
  }
}
