import { mkdir, mkdtemp, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { answerFrom, lockedPackage, makeDeb, serve, testLock } from '../../test/fixtures/debs.js';
import { silent } from '../progress.js';
import type { Lock } from './lock.js';
import { loaderCommand, toolCommand, unpackedRoot } from './tools.js';

let cache: string;
let lock: Lock;
let debs: ReadonlyMap<string, Buffer>;

beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'fastio-tools-'));
  process.env['FASTIO_CACHE'] = cache;
  const made = [
    { name: 'gcc', deb: await makeDeb([{ path: 'usr/bin/gcc', content: 'gcc', mode: 0o755 }]) },
    { name: 'mawk', deb: await makeDeb([{ path: 'usr/bin/mawk', content: 'mawk', mode: 0o755 }]) },
  ];
  lock = testLock(made.map(({ name, deb }) => lockedPackage(name, deb)));
  debs = new Map(made.map(({ deb }, index) => [`/${lock.packages[index]?.poolPath ?? ''}`, deb]));
});
afterEach(async () => {
  delete process.env['FASTIO_CACHE'];
  await rm(cache, { recursive: true });
});

const work = (mirror: string) =>
  ({
    report: silent,
    signal: new AbortController().signal,
    preferred: [mirror],
    aptDirectory: '/nonexistent',
  }) as const;

it('unpacks a root once for all who ask at the same time, with the links that scripts would have made', async () => {
  await using mirror = await serve(answerFrom(debs));

  const [root, same] = await Promise.all([
    unpackedRoot(lock, work(mirror.base)),
    unpackedRoot(lock, work(mirror.base)),
  ]);

  expect(same).toBe(root);
  expect(mirror.requests).toHaveLength(2);
  expect(await readlink(join(root, 'usr/bin/cc'))).toBe('gcc');
  expect(await readlink(join(root, 'usr/bin/awk'))).toBe('mawk');
  expect((await readdir(join(root, 'usr/bin'))).sort()).toEqual(['awk', 'cc', 'gcc', 'mawk']);
  expect(await readdir(join(cache, 'roots'))).toHaveLength(1);
});

it('leaves no root behind when a package cannot be had', async () => {
  await using mirror = await serve(answerFrom(new Map([...debs].slice(0, 1))));
  const options = { ...work(mirror.base), publicMirror: mirror.base, snapshotArchive: mirror.base };

  await expect(unpackedRoot(lock, options)).rejects.toMatchObject({ code: 'PACKAGE_UNAVAILABLE' });

  expect(await readdir(join(cache, 'roots'))).toEqual([]);
});

async function fakeRoot(): Promise<string> {
  const root = join(cache, 'root');
  for (const path of [
    'usr/bin',
    'usr/sbin',
    'usr/lib64',
    'usr/lib/x86_64-linux-gnu',
    'usr/lib/aarch64-linux-gnu',
  ]) {
    await mkdir(join(root, path), { recursive: true });
  }
  await symlink('../lib/x86_64-linux-gnu/ld.so', join(root, 'usr/lib64/ld-linux-x86-64.so.2'));
  await symlink('aarch64-linux-gnu/ld.so', join(root, 'usr/lib/ld-linux-aarch64.so.1'));
  for (const path of [
    'usr/lib/x86_64-linux-gnu/ld.so',
    'usr/lib/aarch64-linux-gnu/ld.so',
    'usr/sbin/depmod',
    'usr/bin/ls',
  ]) {
    await writeFile(join(root, path), '');
  }
  return root;
}

it('runs a root’s programs through the root’s own loader', async () => {
  const root = await fakeRoot();
  const loader = loaderCommand(root);

  expect(toolCommand(root, 'depmod', ['-a'])).toEqual([...loader, join(root, 'usr/sbin/depmod'), '-a']);
  expect(toolCommand(root, 'usr/bin/ls', [])).toEqual([...loader, join(root, 'usr/bin/ls')]);
  expect(loaderCommand(root, 'arm64')).toEqual([
    join(root, 'usr/lib/aarch64-linux-gnu/ld.so'),
    '--library-path',
    `${join(root, 'usr/lib/aarch64-linux-gnu')}:${join(root, 'usr/lib')}`,
  ]);
});

it('names a program that a root lacks', async () => {
  const root = await fakeRoot();

  expect(() => toolCommand(root, 'gdb', [])).toThrow(`no program gdb in ${root}`);
});
