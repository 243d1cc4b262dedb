import { lstat, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { makeDeb, type TestCompression, type TestFile } from '../../test/fixtures/debs.js';
import { FastioError } from '../errors.js';
import { findDebData } from './deb.js';
import { readTar } from './tar.js';
import { openDeb, unpackDebs } from './unpack.js';

let directory: string;
const signal = new AbortController().signal;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fastio-deb-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function write(
  name: string,
  files: readonly TestFile[],
  compression?: TestCompression,
): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, await makeDeb(files, compression));
  return path;
}

it.each<TestCompression>(['xz', 'zst', 'gz', 'none'])(
  'reads a package compressed with %s',
  async (compression) => {
    const content = 'payload '.repeat(100_000);
    const deb = await write(
      'a.deb',
      [{ path: 'usr/' }, { path: 'usr/file', content, mode: 0o4755 }],
      compression,
    );

    const found: [string, number, string][] = [];
    for await (const { header, content: bytes } of readTar(await openDeb(deb, signal))) {
      found.push([header.name, header.mode, (await buffer(bytes)).toString()]);
    }

    expect(found).toEqual([
      ['./usr/', 0o755, ''],
      ['./usr/file', 0o4755, content],
    ]);
  },
);

it.each([
  ['no archive at all', () => Buffer.from('<html>not found</html>'), /expected an ar archive/],
  ['no data', (deb: Buffer) => deb.subarray(0, 100), /found no data.tar member/],
  [
    'a broken header',
    (deb: Buffer) => Buffer.from(deb.toString('latin1').replace('`\n', '??'), 'latin1'),
    /member header/,
  ],
  [
    'unknown compression',
    (deb: Buffer) =>
      Buffer.from(
        deb.toString('latin1').replace('.tar.xz   ', '.tar.lz   ').replaceAll('data.tar.xz', 'data.tar.lz'),
        'latin1',
      ),
    /found data.tar.lz/,
  ],
])('refuses a package with %s', async (_, change, message) => {
  const deb = join(directory, 'bad.deb');
  await writeFile(deb, change(await makeDeb([{ path: 'file', content: 'x' }])));

  const error: unknown = await findDebData(deb).catch((reason: unknown) => reason);

  expect(error).toBeInstanceOf(FastioError);
  expect(error).toMatchObject({ code: 'PACKAGE_CORRUPT', message: expect.stringMatching(message) });
});

it('unpacks packages side by side into one merged tree', async () => {
  const debs = await Promise.all([
    write('base.deb', [
      { path: 'bin', symlink: 'usr/bin' },
      { path: 'lib', symlink: 'usr/lib' },
      { path: 'usr/' },
      { path: 'usr/bin/' },
    ]),
    write('old.deb', [
      { path: 'bin/' },
      { path: 'bin/old', content: 'old', mode: 0o755 },
      { path: 'lib/' },
      { path: 'lib/x', content: 'x' },
    ]),
    write('new.deb', [
      { path: 'usr/' },
      { path: 'usr/bin/' },
      { path: 'usr/bin/new', content: 'new' },
      { path: 'usr/bin/hard', link: 'usr/bin/new' },
    ]),
  ]);
  const root = join(directory, 'root');

  await unpackDebs(debs, root, signal);

  expect(await readlink(join(root, 'bin'))).toBe('usr/bin');
  expect(await readlink(join(root, 'lib'))).toBe('usr/lib');
  expect(await readFile(join(root, 'usr/bin/old'), 'utf8')).toBe('old');
  expect(await readFile(join(root, 'lib/x'), 'utf8')).toBe('x');
  expect((await lstat(join(root, 'usr/bin/hard'))).ino).toBe((await lstat(join(root, 'usr/bin/new'))).ino);
});

it('says which program failed when a package’s data are damaged', async () => {
  const deb = await write('a.deb', [{ path: 'file', content: 'abc'.repeat(10_000) }]);
  const bytes = await readFile(deb);
  await writeFile(deb, bytes.fill(0, bytes.length - 60, bytes.length - 20));

  await expect(unpackDebs([deb], join(directory, 'root'), signal)).rejects.toMatchObject({
    message: expect.stringMatching(/^(xz|tar) ended with/),
  });
});
