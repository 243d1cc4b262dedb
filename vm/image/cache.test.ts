import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { makeOnce, sweep, tempBeside } from './cache.js';
import { ownerOf, ownerState, ownerToken, parseToken } from './owner.js';

let directory: string;
const never = new AbortController().signal;
const deadToken = (): string => ownerToken({ ...ownerOf(), pid: 4_194_305 });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fastio-cache-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const writeA = jest.fn(async (temp: string) => {
  await setImmediate();
  await writeFile(join(temp, 'a'), 'abc');
});

it('makes a directory once, however many want it at the same time', async () => {
  writeA.mockClear();
  const path = join(directory, 'x');

  const made = await Promise.all([1, 2, 3].map(() => makeOnce(path, never, writeA)));

  expect(made.filter(Boolean)).toHaveLength(1);
  expect(writeA).toHaveBeenCalledTimes(1);
  expect(await readdir(directory)).toEqual(['x']);
});

it('leaves nothing when making fails, and lets the next one try', async () => {
  const path = join(directory, 'x');
  let second: Promise<boolean> | undefined;
  const first = makeOnce(path, never, async (temp) => {
    await writeFile(join(temp, 'half'), '');
    second = makeOnce(path, never, writeA);
    throw new Error('no');
  });
  const results = [await Promise.allSettled([first]), await Promise.allSettled([second])].flat();

  expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  expect(await readFile(join(path, 'a'), 'utf8')).toBe('abc');
  expect(await readdir(directory)).toEqual(['x']);
});

it.each(['truncated', 'missing'])('makes a directory anew when a file in it is %s', async (how) => {
  const path = join(directory, 'x');
  await makeOnce(path, never, writeA);
  await (how === 'missing' ? rm(join(path, 'a')) : truncate(join(path, 'a'), 1));

  expect(await makeOnce(path, never, writeA)).toBe(true);
  expect(await readFile(join(path, 'a'), 'utf8')).toBe('abc');
});

it('takes over the lock of a process that was killed', async () => {
  const path = join(directory, 'x');
  await writeFile(`${path}.lock`, deadToken());

  expect(await makeOnce(path, never, writeA)).toBe(true);
  expect(await readdir(directory)).toEqual(['x']);
});

it('stops waiting for another process when told to', async () => {
  const path = join(directory, 'x');
  await writeFile(`${path}.lock`, ownerToken());
  const stop = new AbortController();
  const waiting = makeOnce(path, stop.signal, writeA);
  stop.abort(new Error('enough'));

  await expect(waiting).rejects.toThrow('enough');
});

it('sweeps what dead processes left, and nothing of living ones', async () => {
  const mine = tempBeside(join(directory, 'x'));
  await mkdir(mine);
  await mkdir(join(directory, `y.tmp-${deadToken()}-1`));
  await writeFile(join(directory, 'z.lock'), deadToken());
  await writeFile(join(directory, 'w.lock'), ownerToken());
  await mkdir(join(directory, `foreign.tmp-1-1-1-1`));

  await sweep(directory);

  // A pid of another pid namespace says nothing: that one is left until it is old.
  expect((await readdir(directory)).map((name) => name.slice(0, 3)).sort()).toEqual(['for', 'w.l', 'x.t']);
});

it('recognises a reused pid by its start time', () => {
  expect(ownerState(ownerOf())).toBe('alive');
  expect(ownerState({ ...ownerOf(), startTicks: '1' })).toBe('dead');
  expect(ownerState({ ...ownerOf(), namespace: '1' })).toBe('unknown');
  expect(parseToken(ownerToken())).toEqual(ownerOf());
});
