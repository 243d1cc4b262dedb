import { afterAll, expect, it } from '@jest/globals';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { verifyBundle } from './verify.js';

const directory = mkdtempSync(join(tmpdir(), 'fastio-bundle-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const content = 'p50 is 7\n'.repeat(20_000);
const manifest = {
  ...{ version: 1, tool: { name: 'fastio', version: '0.1.0' }, resultsVersion: 1 },
  ...{ resultsHash: 'x', rerun: 'npx fastio run echo' },
  files: [
    { path: 'run/a', bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') },
  ],
};

async function archive(name: string, files: Readonly<Record<string, string>>): Promise<string> {
  const tar = pack();
  for (const [path, text] of Object.entries(files)) tar.entry({ name: `fastio-bundle/${path}` }, text);
  tar.finalize();
  const file = join(directory, name);
  writeFileSync(file, gzipSync(await buffer(tar), { level: 0 }));
  return file;
}

it('takes a bundle that is as its manifest says', async () => {
  const file = await archive('good', { 'manifest.json': JSON.stringify(manifest), 'run/a': content });

  expect(await verifyBundle(file)).toEqual(manifest);
});

it.each([
  ['changed', { 'run/a': content.replace('7', '6') }, /run\/a: found sha256 .*, expected/],
  ['missing', {}, /run\/a: found nothing, expected 180000 bytes/],
  ['added', { 'run/a': content, 'run/b': '' }, /run\/b: found a file that the manifest does not list/],
])('refuses one with a file %s', async (name, files, message) => {
  const file = await archive(name, { 'manifest.json': JSON.stringify(manifest), ...files });

  await expect(verifyBundle(file)).rejects.toThrow(message);
});

it('refuses a newer version, a torn archive and what is none', async () => {
  const newer = await archive('newer', { 'manifest.json': JSON.stringify({ ...manifest, version: 2 }) });
  const whole = await archive('whole', { 'manifest.json': JSON.stringify(manifest), 'run/a': content });
  const torn = join(directory, 'torn');
  writeFileSync(torn, readFileSync(whole).subarray(0, 100_000));
  const none = join(directory, 'none');
  writeFileSync(none, 'no archive');

  await expect(verifyBundle(newer)).rejects.toThrow('newer: manifest.json: version');
  await expect(verifyBundle(torn)).rejects.toMatchObject({ code: 'INPUT_INVALID' });
  await expect(verifyBundle(none)).rejects.toMatchObject({ code: 'INPUT_INVALID' });
});
