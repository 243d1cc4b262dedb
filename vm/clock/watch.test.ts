import { expect, it } from '@jest/globals';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { watchSteps } from './watch.js';

/** Waits, for at most ten seconds, until a condition holds. */
async function until(condition: () => boolean): Promise<void> {
  for (let left = 200; left > 0 && !condition(); left -= 1) await pause(50);
}

it('tells of steps as their lines appear, whole, in a log that comes later', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fastio-watch-'));
  const file = join(directory, 'console.log');
  const seen: string[] = [];
  const watch = watchSteps(file, (group, step) => seen.push(`${group}.${step}`));

  await appendFile(
    file,
    '[    0.1] fastio-job: run not.this\r\nfastio-job: run run-0.insmod\r\nfastio-job: sta',
  );
  await until(() => seen.length === 1);
  await appendFile(file, 'rt run-0.server\r\nfastio-job: something else\r\nfastio-job: stop run-0.server\n');
  await until(() => seen.length === 3);
  await watch[Symbol.asyncDispose]();
  await appendFile(file, 'fastio-job: run run-1.insmod\n');
  await pause(1_100);
  await rm(directory, { recursive: true });

  expect(seen).toEqual(['run-0.insmod', 'run-0.server', 'run-0.server']);
});

it('watches for a log that never comes, and ends', async () => {
  const watch = watchSteps('/nonexistent/console.log', () => undefined);
  await pause(600);
  await watch[Symbol.asyncDispose]();
});
