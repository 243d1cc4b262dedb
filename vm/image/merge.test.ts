import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { makeDeb, type TestFile } from '../../test/fixtures/debs.js';
import { type LayerPlan, mergePackages, mergePath } from './merge.js';
import { readTar, writeTar } from './tar.js';

let directory: string;
const signal = new AbortController().signal;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fastio-merge-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function planOf(
  packages: readonly (readonly TestFile[])[],
  more: Partial<LayerPlan> = {},
): Promise<LayerPlan> {
  const debs = packages.map((_, index) => join(directory, `${index}.deb`));
  for (const [index, files] of packages.entries()) await writeFile(debs[index] ?? '', await makeDeb(files));
  return {
    ...{
      debs,
      keep: () => true,
      capture: new Set(),
      replaced: new Set(),
      extra: () => [],
      epochSeconds: 1_700_000_000,
    },
    ...more,
  };
}

async function merge(plan: LayerPlan): Promise<{ bytes: Buffer; captured: ReadonlyMap<string, Buffer> }> {
  const writer = writeTar();
  const reading = buffer(writer.stream);
  const captured = await mergePackages(plan, writer, signal);
  writer.end();
  return { bytes: await reading, captured };
}

async function list(bytes: Buffer): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const { header, content } of readTar(Readable.from([bytes]))) {
    const text = (await buffer(content)).toString();
    const target = header.linkname ? ` -> ${header.linkname}` : '';
    lines.push(
      `${header.type} ${header.mode.toString(8)} ${header.uid} ${header.name}${target}${text && ` = ${text}`}`,
    );
  }
  return lines;
}

const first: readonly TestFile[] = [
  { path: 'bin', symlink: 'usr/bin' },
  { path: 'usr/' },
  { path: 'usr/bin/' },
  { path: 'usr/bin/su', content: 'su', mode: 0o4755 },
  { path: 'usr/share/doc/' },
  { path: 'usr/share/doc/copyright', content: 'long' },
  { path: 'etc/hosts', content: 'packaged' },
];
const second: readonly TestFile[] = [
  { path: 'lib/' },
  { path: 'lib/modules/' },
  { path: 'lib/modules/a.ko', content: 'a', uid: 7 },
  { path: 'lib/modules/b.ko', link: 'lib/modules/a.ko' },
  { path: 'usr/' },
];

it('merges packages into one tree: directories once, old paths below /usr, modes and owners as packaged', async () => {
  const plan = await planOf([first, second], {
    keep: (path) => !path.startsWith('usr/share/doc'),
    replaced: new Set(['etc/hosts']),
    extra: () => [{ type: 'file', path: 'etc/hosts', mode: 0o644, content: 'ours' }],
  });

  expect(await list((await merge(plan)).bytes)).toEqual([
    'directory 755 0 usr',
    'directory 755 0 usr/bin',
    'file 4755 0 usr/bin/su = su',
    'directory 755 0 usr/lib',
    'directory 755 0 usr/lib/modules',
    'file 644 7 usr/lib/modules/a.ko = a',
    'link 644 0 usr/lib/modules/b.ko -> usr/lib/modules/a.ko',
    'directory 755 0 etc',
    'file 644 0 etc/hosts = ours',
  ]);
});

it('gives the same bytes twice', async () => {
  const plan = await planOf([first, second]);

  expect((await merge(plan)).bytes.equals((await merge(plan)).bytes)).toBe(true);
});

it('hands over the files it was asked to capture, kept or not', async () => {
  const plan = await planOf([first], {
    keep: (path) => !path.startsWith('usr/share'),
    capture: new Set(['usr/share/doc/copyright', 'usr/bin/su']),
  });

  const { bytes, captured } = await merge(plan);

  expect(captured.get('usr/share/doc/copyright')?.toString()).toBe('long');
  expect(captured.get('usr/bin/su')?.toString()).toBe('su');
  expect(await list(bytes)).toContain('file 4755 0 usr/bin/su = su');
});

it('refuses two packages with the same file', async () => {
  const plan = await planOf([first, [{ path: 'bin/su', content: 'another' }]]);

  const writer = writeTar();
  writer.stream.resume();
  await expect(mergePackages(plan, writer, signal)).rejects.toMatchObject({
    code: 'LOCK_INVALID',
    message: expect.stringMatching(/^\/usr\/bin\/su comes a second time, from .*1\.deb$/),
  });
});

it('carries files far larger than a buffer', async () => {
  const content = '0123456789abcdef'.repeat(1 << 17);
  const plan = await planOf([[{ path: 'big', content }]]);

  expect(await list((await merge(plan)).bytes)).toEqual([`file 644 0 big = ${content}`]);
});

it.each([
  ['./', ''],
  ['./usr/bin/', 'usr/bin'],
  ['./lib64/ld.so', 'usr/lib64/ld.so'],
  ['/sbin/init', 'usr/sbin/init'],
  ['lib', 'lib'],
  ['./library/x', 'library/x'],
])('merges the path %s to "%s"', (name, path) => {
  expect(mergePath(name)).toBe(path);
});
