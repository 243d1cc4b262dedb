import { chmodSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { copySources, hashSources, listSources } from './sources.js';

function tree(files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'fastio-sources-'));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(directory, path, '..'), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return directory;
}

async function hashOf(directory: string): Promise<string> {
  return hashSources(await listSources([{ directory }]));
}

it('gives equal trees equal hashes, wherever they are', async () => {
  const files = { 'a.c': 'int a;', 'include/a.h': '' };

  const hashes = [await hashOf(tree(files)), await hashOf(tree(files))];

  expect(hashes[0]).toBe(hashes[1]);
});

it.each([
  ['a content', { 'a.c': 'int b;', 'include/a.h': '' }],
  ['a name', { 'b.c': 'int a;', 'include/a.h': '' }],
  ['where one file ends and the next begins', { 'a.c': 'int a', 'include/a.h': ';' }],
])('notices a change of %s', async (_, changed) => {
  const before = await hashOf(tree({ 'a.c': 'int a;', 'include/a.h': '' }));

  const after = await hashOf(tree(changed));

  expect(after).not.toBe(before);
});

it('notices that a script became executable', async () => {
  const directory = tree({ 'gen.sh': 'true' });
  const before = await hashOf(directory);

  chmodSync(join(directory, 'gen.sh'), 0o755);

  expect(await hashOf(directory)).not.toBe(before);
});

it('does not see what builds leave behind', async () => {
  const directory = tree({ 'a.c': 'int a;' });
  const before = await hashOf(directory);

  for (const name of ['a.o', 'fastio.ko', '.a.o.cmd', 'fastio.mod.c', 'Module.symvers', 'modules.order']) {
    writeFileSync(join(directory, name), 'made');
  }

  expect(await hashOf(directory)).toBe(before);
});

it('puts trees side by side at their mounts', async () => {
  const kmod = tree({ 'include/fastio.h': 'k' });
  const lib = tree({ 'conf.c': 'c', 'tests/t.c': 't' });
  const files = await listSources([
    { directory: lib, include: ['conf.c'], mount: 'lib' },
    { directory: kmod, mount: 'kmod' },
  ]);
  const target = mkdtempSync(join(tmpdir(), 'fastio-sources-'));

  await copySources(files, target);

  expect(files.map(({ to }) => to)).toEqual(['kmod/include/fastio.h', 'lib/conf.c']);
  expect(readFileSync(join(target, 'lib/conf.c'), 'utf8')).toBe('c');
});

it('names a link rather than follow it out of the tree', async () => {
  const directory = tree({ 'a.c': '' });
  symlinkSync('/etc/passwd', join(directory, 'b.c'));

  await expect(listSources([{ directory }])).rejects.toMatchObject({
    code: 'INPUT_INVALID',
    message: expect.stringContaining('b.c: found a link'),
  });
});

it('names a directory that is not there', async () => {
  await expect(listSources([{ directory: '/nonexistent/kmod' }])).rejects.toThrow(
    /no such file or directory/,
  );
});
