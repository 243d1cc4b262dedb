import { readFile, stat } from 'node:fs/promises';
import { LineCounter, isMap, isNode, isPair, isScalar, parseDocument } from 'yaml';
import type { Document } from 'yaml';
import type { z } from 'zod';
import { FastioError, errnoOf } from '../../vm/errors.js';

/** A hand-written file is a few kilobytes; anything near this is not one. */
const maxYamlBytes = 1_048_576;
/** results.json of the largest sweep is about 20 MB. */
const maxJsonBytes = 512 * 1_048_576;
/** How many further faults of one file are listed below the first. */
const maxFaults = 20;

type Path = readonly PropertyKey[];

/** One thing wrong in a file, at the key it is about. */
export interface Fault {
  readonly path: Path;
  /** `found …, expected …`. */
  readonly message: string;
}

/** A parsed YAML or JSON file that still knows the line of each of its keys. */
export interface SourceFile {
  readonly file: string;
  readonly value: unknown;
  /** The line, from 1, of the key at `path`, or of the nearest key above it. */
  readonly lineOf: (path: Path) => number;
}

/**
 * Reads a YAML file.
 * @throws FastioError INPUT_INVALID when it is absent, too large or not YAML, with the line.
 */
export async function readYaml(file: string): Promise<SourceFile> {
  return parseSource(file, await readText(file, maxYamlBytes));
}

/** As `readYaml`, for text that is already there. */
export function parseSource(file: string, text: string): SourceFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, strict: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const { line } = lines.linePos(problem.pos[0]);
    throw new FastioError(
      'INPUT_INVALID',
      `${file}:${line} ${problem.message.split('\n')[0]?.replace(/ at line.*$/, '') ?? ''}`,
      'Correct the YAML.',
    );
  }
  return {
    file,
    value: document.toJS({ maxAliasCount: 100 }) as unknown,
    lineOf: (path) => lineOf(document, lines, path),
  };
}

/**
 * Reads a JSON file. Lines are only worked out when something is wrong with it.
 * @throws FastioError INPUT_INVALID.
 */
export async function readJson(file: string): Promise<SourceFile> {
  const text = await readText(file, maxJsonBytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const at = /position (\d+)/.exec(String(error))?.[1];
    const line = text.slice(0, Number(at ?? text.length)).split('\n').length;
    throw new FastioError(
      'INPUT_INVALID',
      `${file}:${line} found text that is not JSON, expected a JSON document`,
      'Take the file from the run’s directory again; it is damaged.',
    );
  }
  let source: SourceFile | undefined;
  return { file, value, lineOf: (path) => (source ??= parseSource(file, text)).lineOf(path) };
}

async function readText(file: string, limitBytes: number): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > limitBytes) {
      throw new FastioError(
        'INPUT_INVALID',
        `${file}: found ${size} bytes, expected at most ${limitBytes}`,
        'Name a smaller file.',
      );
    }
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = errnoOf(error);
    if (code !== 'ENOENT' && code !== 'EISDIR' && code !== 'ENOTDIR' && code !== 'EACCES') throw error;
    const found = { ENOENT: 'nothing', EISDIR: 'a directory', ENOTDIR: 'nothing', EACCES: 'no permission' }[
      code
    ];
    throw new FastioError(
      'INPUT_INVALID',
      `${file}: found ${found}, expected a file`,
      'Name a file that is there.',
      { cause: error },
    );
  }
}

/**
 * Checks a file against a schema.
 * @throws FastioError INPUT_INVALID: the first fault in the message, the others below it.
 */
export function checkSource<T>(source: SourceFile, schema: z.ZodType<T>): T {
  const result = schema.safeParse(source.value, { reportInput: true });
  if (result.success) return result.data;
  const faults = result.error.issues.flatMap((issue) => faultsOf(issue, source.value));
  throw invalid(source, faults);
}

/** The error for faults found in a file, in the order of its lines. */
export function invalid(source: SourceFile, faults: readonly Fault[]): FastioError {
  const lines = faults
    .map(({ path, message }) => ({ line: source.lineOf(path), text: `${pathText(path)}${message}` }))
    .sort((a, b) => a.line - b.line)
    .map(({ line, text }) => `${source.file}:${line} ${text}`);
  const [first = `${source.file}: invalid`, ...rest] = lines;
  return new FastioError('INPUT_INVALID', first, 'Correct that line and run the same command again.', {
    detail: rest.slice(0, maxFaults),
  });
}

function pathText(path: Path): string {
  if (path.length === 0) return '';
  const text = path.reduce<string>((all, part) => {
    if (typeof part === 'number') return `${all}[${part}]`;
    return all === '' ? String(part) : `${all}.${String(part)}`;
  }, '');
  return `${text}: `;
}

type Issue = z.core.$ZodIssue;

function faultsOf(issue: Issue, root: unknown): readonly Fault[] {
  const { path } = issue;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: [...path, key],
      message: 'found an unknown key, expected none or a known one (see the JSON Schema beside the file)',
    }));
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const nested = issue.errors.toSorted((a, b) => deepest(b) - deepest(a))[0] ?? [];
    if (deepest(nested) > 0)
      return nested.flatMap((one) => faultsOf({ ...one, path: [...path, ...one.path] }, root));
  }
  if (issue.code === 'invalid_key') {
    const name = JSON.stringify(path.at(-1));
    return [{ path, message: `found the name ${name}, expected ${expectedText(issue)}` }];
  }
  if (issue.code === 'custom') return [{ path, message: issue.message }];
  return [{ path, message: `found ${foundText(valueAt(root, path))}, expected ${expectedText(issue)}` }];
}

const deepest = (issues: readonly Issue[]): number => Math.max(0, ...issues.map(({ path }) => path.length));

function expectedText(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected;
    case 'too_small':
      return `${sizeWord(issue.origin)}at least ${issue.minimum}`;
    case 'too_big':
      return `${sizeWord(issue.origin)}at most ${issue.maximum}`;
    case 'invalid_value':
      return issue.values.map((value) => JSON.stringify(value)).join(' or ');
    case 'invalid_format':
      return issue.pattern === undefined ? issue.format : `text like ${issue.pattern}`;
    case 'invalid_key':
    case 'invalid_element':
      return issue.issues.map(expectedText).join(' and ');
    case 'invalid_union':
    case 'not_multiple_of':
    case 'unrecognized_keys':
    case 'custom':
      return issue.message;
  }
}

function sizeWord(origin: string): string {
  if (origin === 'string') return 'a length of ';
  return origin === 'array' || origin === 'record' ? 'entries: ' : '';
}

function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    root,
  );
}

function foundText(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object' && value !== null) return 'a map';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

function lineOf(document: Document, lines: LineCounter, path: Path): number {
  for (let length = path.length; length > 0; length -= 1) {
    const offset = keyOffset(document, path.slice(0, length));
    if (offset !== undefined) return lines.linePos(offset).line;
  }
  return 1;
}

/** A map's entry is where its key stands; a list's entry is where its value does. */
function keyOffset(document: Document, path: Path): number | undefined {
  const parent: unknown = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  const key = path.at(-1);
  if (isMap(parent)) {
    const pair = parent.items.find(
      (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(key),
    );
    return isNode(pair?.key) ? pair.key.range?.[0] : undefined;
  }
  const node: unknown = document.getIn(path, true);
  return isNode(node) ? node.range?.[0] : undefined;
}
