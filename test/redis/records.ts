import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { RedisServer } from '../../toolchain/redis.js';
import { errnoOf } from '../../vm/errors.js';
import type { Usage, Variant } from './tcl.js';
import { variantNames } from './tcl.js';

/** What one variant made of one file. */
export interface FileResult {
  /** Names of tests that passed at the first attempt; one that the file has twice stands there twice. */
  readonly passed: readonly string[];
  /** Those the stock server passed and this one only when the file was run again. */
  readonly later: readonly string[];
  /** Those the stock server passed and this one never. */
  readonly lost: readonly string[];
  /** Of the last attempt: names with their files, and exceptions that ended the file early. */
  readonly failed: readonly string[];
  /** Of all attempts. */
  readonly used: Usage;
}

export interface FileRecord {
  readonly server: RedisServer;
  readonly file: string;
  readonly results: Partial<Readonly<Record<Variant, FileResult>>>;
}

const pathOf = (directory: string, server: RedisServer, file: string): string =>
  join(directory, server, `${file.replaceAll('/', '-')}.json`);

/** What an earlier run left, or nothing. */
export async function readRecord(
  directory: string,
  server: RedisServer,
  file: string,
): Promise<FileRecord | undefined> {
  try {
    return JSON.parse(await readFile(pathOf(directory, server, file), 'utf8')) as FileRecord;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

export async function writeRecord(directory: string, record: FileRecord): Promise<void> {
  const path = pathOf(directory, record.server, record.file);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.new`, `${JSON.stringify(record, undefined, 1)}\n`);
  await rename(`${path}.new`, path);
}

const letterOf = (variant: Variant): string => variant.slice(0, 1).toUpperCase();

/** The variants that some file was run with. */
const variantsOf = (records: readonly FileRecord[]): readonly Variant[] =>
  variantNames.filter((variant) => records.some(({ results }) => results[variant] !== undefined));

/** Every test by file, with a letter for each variant that passes it as often as the stock server. */
export function passList(server: RedisServer, records: readonly FileRecord[]): string {
  const variants = variantsOf(records);
  const legend = variants.map((variant) => `${letterOf(variant)} ${variant}`).join(', ');
  const head = [
    `Tests of ${server} that pass: ${legend}.`,
    'In small letters: not at the first attempt. Minus: never. Dot: not run.',
  ];
  const lines = records.flatMap(({ file, results }) => {
    const names = [...new Set(results.stock?.passed ?? [])].sort();
    return [
      '',
      `${file}${connections(results)}`,
      ...names.map((name) => `  ${marks(results, variants, name)} ${name}`),
      ...(results.stock?.failed ?? []).map((text) => `  not even by the stock server: ${text}`),
    ];
  });
  return [...head, ...lines, ''].join('\n');
}

/** Where the connections of a file's servers went, of those that ended in order. */
function connections(results: FileRecord['results']): string {
  const went = variantNames.flatMap((variant) => {
    const used = results[variant]?.used;
    if (used === undefined || variant === 'stock') return [];
    return variant === 'absent' ? `A ${used.plain} plain` : `${letterOf(variant)} ${used.attached} on rings`;
  });
  return went.length === 0 ? '' : `: connections ${went.join(', ')}`;
}

function marks(results: FileRecord['results'], variants: readonly Variant[], name: string): string {
  return variants
    .map((variant) => {
      const result = results[variant];
      if (result === undefined) return '.';
      if (result.lost.includes(name)) return '-';
      return result.later.includes(name) ? letterOf(variant).toLowerCase() : letterOf(variant);
    })
    .join('');
}

/**
 * A Markdown table: of each file, how many tests the stock server passes, and how many of those each variant; below, of
 * how many in the files that were run with it.
 */
export function passTable(records: readonly FileRecord[]): string {
  const variants = variantsOf(records);
  const expected = (record: FileRecord): number => record.results.stock?.passed.length ?? 0;
  const ran = (variant: Variant): readonly FileRecord[] =>
    records.filter(({ results }) => results[variant] !== undefined);
  const count = (record: FileRecord, variant: Variant): number =>
    expected(record) - (record.results[variant]?.lost.length ?? 0);
  const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);
  const rows = records.map((record) => [
    `\`${record.file}\``,
    ...variants.map((variant) =>
      record.results[variant] === undefined ? '-' : String(count(record, variant)),
    ),
  ]);
  const sums = variants.map((variant) => {
    const passed = sum(ran(variant).map((record) => count(record, variant)));
    return `${passed} of ${sum(ran(variant).map(expected))}`;
  });
  const columns = ['file', ...variants];
  const table = [
    columns,
    columns.map((_, index) => (index === 0 ? '---' : '--:')),
    ...rows,
    ['all', ...sums],
  ];
  return table.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
