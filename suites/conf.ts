import { constants, openSync, closeSync, fstatSync, readSync } from 'node:fs';
import { errnoOf, FastioError } from '../vm/errors.js';

/**
 * The keys of a fastio.conf, by their own names; what each means stands in the shipped file. lib/conf.c does the
 * same in C; lib/tests/conf/ holds the cases that both must answer alike, down to the wording of the messages.
 */
export interface FastioConf {
  readonly esca_localize: number;
  readonly max_table_entry: number;
  readonly max_table_len: number;
  readonly max_usr_worker: number;
  readonly max_ker_worker: number;
  readonly default_main_worker_idle_time: number;
  readonly default_wq_worker_idle_time: number;
  readonly affinity_offset: number;
  readonly wq_affinity_offset: number;
}

type Key = keyof FastioConf;

interface Range {
  readonly min: number;
  readonly max: number;
  readonly initial: number;
}

const maxEntries = 32768;
/** Most kernel workers of one user worker. */
const maxRatio = 64;
const maxFileBytes = 16384;
const maxLineBytes = 256;
/** Found text is shown up to this many bytes. */
const shownBytes = 40;

const ranges: Readonly<Record<Key, Range>> = {
  esca_localize: { min: 0, max: 1, initial: 0 },
  max_table_entry: { min: 1, max: maxEntries, initial: 64 },
  max_table_len: { min: 1, max: maxEntries, initial: 10 },
  max_usr_worker: { min: 1, max: 64, initial: 1 },
  max_ker_worker: { min: 0, max: 1024, initial: 2 },
  default_main_worker_idle_time: { min: 0, max: 10_000, initial: 1500 },
  default_wq_worker_idle_time: { min: 0, max: 10_000, initial: 1500 },
  affinity_offset: { min: -1, max: 1023, initial: -1 },
  wq_affinity_offset: { min: -1, max: 1023, initial: -1 },
};

const keys = Object.keys(ranges) as readonly Key[];

export const defaultConf: FastioConf = Object.fromEntries(
  keys.map((key) => [key, ranges[key].initial]),
) as unknown as FastioConf;

/** Entries of each submission ring, a power of two. */
export function ringEntries(conf: FastioConf): number {
  return 2 ** Math.ceil(Math.log2(conf.max_table_entry * conf.max_table_len));
}

/**
 * Reads the text of a fastio.conf. Keys that are left out have their defaults.
 * @param name What messages call the text, usually its path.
 * @throws FastioError INPUT_INVALID: `NAME:LINE: found ..., expected ...`.
 */
export function parseConf(name: string, text: Uint8Array): FastioConf {
  if (text.length > maxFileBytes) {
    throw wrong(name, 1, `found a file of more than ${maxFileBytes} bytes, expected at most that`);
  }
  const conf: Record<Key, number> = { ...defaultConf };
  const seen = new Map<Key, number>();
  linesOf(text).forEach((bytes, index) => {
    const line = index + 1;
    if (bytes.length > maxLineBytes) {
      throw wrong(name, line, `found a line of ${bytes.length} bytes, expected at most ${maxLineBytes}`);
    }
    const entry = parseLine(name, line, bytes);
    if (entry === undefined) return;
    const before = seen.get(entry.key);
    if (before !== undefined) {
      throw wrong(name, line, `found ${entry.key} again, expected it once (it stands on line ${before})`);
    }
    seen.set(entry.key, line);
    conf[entry.key] = valueOf(name, line, entry);
  });
  checkTogether(name, conf, seen);
  return conf;
}

/**
 * Reads a fastio.conf.
 * @throws FastioError INPUT_INVALID as `parseConf`, and for a file that is missing or cannot be read.
 */
export function loadConf(path: string): FastioConf {
  return parseConf(path, readFile(path));
}

interface Entry {
  readonly key: Key;
  readonly value: string;
}

/** Lines as one character per byte; the last one may lack its end. */
function linesOf(text: Uint8Array): readonly string[] {
  return Buffer.from(text)
    .toString('latin1')
    .split('\n')
    .map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
}

function parseLine(name: string, line: number, bytes: string): Entry | undefined {
  const text = trimmed(bytes.split('#', 1)[0] ?? '');
  if (text === '') return undefined;
  const equals = text.indexOf('=');
  const key = trimmed(text.slice(0, Math.max(equals, 0)));
  if (key === '') throw wrong(name, line, `found ${quoted(text)}, expected key = value`);
  if (!isKey(key)) {
    throw wrong(name, line, `found the unknown key ${quoted(key)}, expected one of ${keys.join(', ')}`);
  }
  return { key, value: trimmed(text.slice(equals + 1)) };
}

function valueOf(name: string, line: number, { key, value }: Entry): number {
  const { min, max } = ranges[key];
  // Neither a plus sign nor leading zeros, which some tools would read as octal.
  const number = /^(0|-?[1-9]\d{0,9})$/.test(value) ? Number(value) : NaN;
  if (number >= min && number <= max) return number;
  throw wrong(name, line, `found ${quoted(value)} for ${key}, expected a whole number from ${min} to ${max}`);
}

/** What no key can be wrong about alone is reported where the second of the two stands. */
function checkTogether(name: string, conf: FastioConf, seen: ReadonlyMap<Key, number>): void {
  const later = (a: Key, b: Key): number => Math.max(seen.get(a) ?? 0, seen.get(b) ?? 0);
  const entries = conf.max_table_entry * conf.max_table_len;
  const { max_ker_worker: kernelWorkers, max_usr_worker: userWorkers } = conf;
  if (entries > maxEntries) {
    throw wrong(
      name,
      later('max_table_entry', 'max_table_len'),
      `found max_table_entry x max_table_len = ${entries}, expected at most ${maxEntries}`,
    );
  }
  const line = later('max_usr_worker', 'max_ker_worker');
  if (kernelWorkers % userWorkers !== 0) {
    throw wrong(
      name,
      line,
      `found max_ker_worker = ${kernelWorkers} with max_usr_worker = ${userWorkers}, expected a multiple of it`,
    );
  }
  const ratio = kernelWorkers / userWorkers;
  if (ratio > maxRatio) {
    throw wrong(name, line, `found max_ker_worker / max_usr_worker = ${ratio}, expected at most ${maxRatio}`);
  }
}

function isKey(text: string): text is Key {
  return Object.hasOwn(ranges, text);
}

/** Without blanks at either end; other white space is not a blank. */
function trimmed(text: string): string {
  return text.replace(/^[ \t]+/, '').replace(/[ \t]+$/, '');
}

/** Makes any bytes fit to be shown on one line of a terminal. */
function quoted(text: string): string {
  const shown = text
    .slice(0, shownBytes)
    .replace(/[^ !#-[\]-~]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return `"${shown}"${text.length > shownBytes ? '...' : ''}`;
}

function wrong(name: string, line: number, what: string): FastioError {
  return new FastioError(
    'INPUT_INVALID',
    `${name}:${line}: ${what}`,
    'Correct that line; the fastio.conf that is shipped says what each key means.',
  );
}

function readFile(path: string): Uint8Array {
  let file: number | undefined;
  try {
    // Non-blocking: opening a pipe by mistake must not hang.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!fstatSync(file).isFile()) {
      throw wrong(path, 1, 'found something that is not a regular file, expected a readable file');
    }
    return readUpTo(file, maxFileBytes + 1);
  } catch (error) {
    if (error instanceof FastioError) throw error;
    const code = errnoOf(error);
    if (code === 'ENOENT') throw wrong(path, 1, 'found no such file, expected a readable file');
    const found = `found a file that cannot be read (${code ?? 'unknown error'})`;
    throw wrong(path, 1, `${found}, expected a readable file`);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function readUpTo(file: number, size: number): Uint8Array {
  const bytes = Buffer.alloc(size);
  let length = 0;
  for (let got = -1; got !== 0 && length < size; length += got) {
    got = readSync(file, bytes, length, size - length, null);
  }
  return bytes.subarray(0, length);
}
