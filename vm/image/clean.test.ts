import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { silent } from '../progress.js';
import { cleanCache } from './clean.js';
import { holdImage } from './hold.js';
import { ownerToken } from './owner.js';

let cache: string;
const work = { report: silent, signal: new AbortController().signal };

beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'fastio-clean-'));
  process.env['FASTIO_CACHE'] = cache;
  const files = {
    'debs/x.deb': 'x'.repeat(10_000),
    'images/one/layers.json': '["base-a","kernel-a"]',
    'images/two/layers.json': '["base-a","kernel-b"]',
    'layers/base-a/f': '',
    'layers/kernel-a/f': '',
    'layers/kernel-b/f': '',
    'roots/run-x/usr/f': '',
    'roots/build-x/usr/f': '',
    'templates/t/ram': '',
  };
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(cache, path, '..'), { recursive: true });
    await writeFile(join(cache, path), content);
  }
});
afterEach(async () => {
  delete process.env['FASTIO_CACHE'];
  await rm(cache, { recursive: true });
});

const left = async (): Promise<string[]> => {
  const paths: string[] = [];
  for (const section of (await readdir(cache)).sort()) {
    for (const name of (await readdir(join(cache, section))).sort()) paths.push(`${section}/${name}`);
  }
  return paths;
};

it('removes everything when no guest runs, and says how much it was', async () => {
  const { removed, kept } = await cleanCache({ dryRun: false }, work);

  expect(await left()).toEqual([]);
  expect(kept).toEqual([]);
  expect(removed).toHaveLength(9);
  expect(removed.find(({ path }) => path.endsWith('/debs'))?.bytes).toBeGreaterThanOrEqual(10_000);
});

it('only tells in a dry run', async () => {
  const before = await left();

  const { removed } = await cleanCache({ dryRun: true }, work);

  expect(removed).toHaveLength(9);
  expect(await left()).toEqual(before);
});

it('keeps what a running guest uses, until it lets go', async () => {
  const letGo = await holdImage('one');

  const { kept } = await cleanCache({ dryRun: false }, work);

  expect(await left()).toEqual([
    'images/one',
    'layers/base-a',
    'layers/kernel-a',
    'roots/run-x',
    'templates/t',
  ]);
  expect(kept.map(({ reason }) => reason)).toEqual(Array<string>(5).fill(`used by process ${process.pid}`));
  await letGo();
  await cleanCache({ dryRun: false }, work);
  expect(await left()).toEqual([]);
});

it('lets go of an image whose holder was killed', async () => {
  const holder = spawn('sleep', ['60']);
  await holdImage('one', holder.pid);
  holder.kill('SIGKILL');
  await once(holder, 'exit');

  const { kept } = await cleanCache({ dryRun: false }, work);

  expect(kept).toEqual([]);
});

it('leaves alone what another process is making', async () => {
  await mkdir(join(cache, `layers/new.tmp-${ownerToken()}-1`));
  await writeFile(join(cache, 'layers/new.lock'), ownerToken());

  const { kept } = await cleanCache({ dryRun: false }, work);

  expect(await left()).toHaveLength(2);
  expect(kept.map(({ reason }) => reason)).toEqual(['being made', 'being made']);
});

it('says so when an image to hold has gone', async () => {
  await expect(holdImage('three')).rejects.toMatchObject({ code: 'CACHE_UNREADABLE' });
});
