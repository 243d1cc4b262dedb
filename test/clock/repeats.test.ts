import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import { Worker } from 'node:worker_threads';
import { withoutHost } from '../../vm/clock/log.js';
import { calibrate, inWindow, outside } from './rig.js';

/** Enough to fill every core and change in between. */
const load: Worker[] = [];
beforeAll(() => {
  const spin = `const end = () => Date.now() + 50 + 200 * Math.random();
    setInterval(() => { const until = end(); while (Date.now() < until); }, 30 + 100 * Math.random());`;
  load.push(...cpus().map(() => new Worker(spin, { eval: true })));
});
afterAll(async () => {
  await Promise.all(load.map((worker) => worker.terminate()));
});

/** Hash of everything a run says but the host's part. */
async function runOnce(name: string, seed: number): Promise<string> {
  const { job } = await calibrate(
    name,
    6,
    [
      inWindow('lock', 'lock', 5, 300, 100),
      inWindow('ping', 'ping', 2_000),
      inWindow('order', 'order', 5, 1_000),
      inWindow('calls', 'calls', 1_000),
      outside('sleep', 'sleep', 100, 1_000_000, 10_000_000),
      inWindow('loop', 'loop', 5, 1_000_000),
    ],
    { seed, costProfile: 'neoverse-n1' },
  );
  const said = [withoutHost(job.clock), [...job.steps]];
  return createHash('sha256').update(JSON.stringify(said)).digest('hex');
}

it('repeats a run to the last counter, five times, on a host that is busy with other things', async () => {
  const hashes: string[] = [];
  for (let i = 0; i < 5; i += 1) hashes.push(await runOnce(`repeat-${i}`, 1));
  console.log(`sha256 of five runs: ${hashes.join(' ')}`);

  expect(new Set(hashes).size).toBe(1);
});

it('makes another run of another seed', async () => {
  expect(await runOnce('seed-2', 2)).not.toBe(await runOnce('seed-3', 3));
});
