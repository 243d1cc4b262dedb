import { expect, it } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FastioError } from '../vm/errors.js';
import { projectRoot } from '../vm/paths.js';
import { defaultConf, loadConf, parseConf, ringEntries } from './conf.js';

// lib/tests/conf_test.c runs the same cases: NAME.expect holds the nine values, or the message without its path.
const directory = join(projectRoot, 'lib/tests/conf');
const names = readdirSync(directory)
  .filter((file) => file.endsWith('.expect'))
  .map((file) => file.slice(0, -'.expect'.length));

function answer(path: string): string {
  try {
    const conf = loadConf(path);
    return Object.entries(conf)
      .map(([key, value]) => `${key} = ${String(value)}\n`)
      .join('');
  } catch (error) {
    if (!(error instanceof FastioError) || error.code !== 'INPUT_INVALID') throw error;
    if (!error.message.startsWith(`${path}:`)) return error.message;
    return `${error.message.slice(path.length + 1)}\n`;
  }
}

it('has cases to run', () => {
  expect(names.length).toBeGreaterThan(50);
});

it.each(names)('answers the case %s as the C library does', (name) => {
  const expected = readFileSync(join(directory, `${name}.expect`), 'utf8');

  expect(answer(join(directory, `${name}.conf`))).toBe(expected);
});

it('ships a file that says the defaults', () => {
  expect(loadConf(join(projectRoot, 'fastio.conf'))).toEqual(defaultConf);
});

it.each([
  [64, 10, 1024],
  [64, 16, 1024],
  [1, 1, 1],
  [3, 1, 4],
  [32768, 1, 32768],
])('makes %d x %d entries a ring of %d', (entry, length, entries) => {
  const conf = { ...defaultConf, max_table_entry: entry, max_table_len: length };

  expect(ringEntries(conf)).toBe(entries);
});

it('does not take names of built-in properties for keys', () => {
  expect(() => parseConf('f', Buffer.from('constructor = 1'))).toThrow(
    'f:1: found the unknown key "constructor", expected one of ',
  );
});
