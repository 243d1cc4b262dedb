import { beforeAll, expect, it } from '@jest/globals';
import { virtualPerWall, withoutHost } from '../../vm/clock/log.js';
import { calibrate, inWindow, loopError, outside, type Calibration } from '../clock/rig.js';

/** The part of `npm run test:clock` that is quick enough for every run: five vCPUs, one cost model, twice. */
const runs: Calibration[] = [];
beforeAll(async () => {
  for (const name of ['first', 'second']) {
    runs.push(
      await calibrate(
        name,
        5,
        [
          inWindow('loop', 'loop', 4, 10_000_000),
          inWindow('order', 'order', 4, 2_000),
          inWindow('lock', 'lock', 4, 500, 100),
          inWindow('ping', 'ping', 2_000),
          outside('sleep', 'sleep', 1_000_000, 100_000_000),
        ],
        { seed: 1, costProfile: 'neoverse-n1' },
      ),
    );
  }
});

it('gives pinned loops on four vCPUs their instructions in ns, within 0.3 %', () => {
  expect(runs[0]?.output('loop').ns).toHaveLength(4);
  for (const run of runs) expect(loopError(run.output('loop'))).toBeLessThan(0.003);
});

it('keeps order, locks, round trips and sleeps as the model has them', () => {
  const output = (id: string) => runs[0]?.output(id);

  expect(output('order')).toMatchObject({ backwards: 0 });
  const { spanNs = 0, holds = 0, each = 0 } = output('lock') ?? {};
  expect(spanNs).toBeGreaterThanOrEqual(holds * each);
  const roundTrip = Math.max(...(output('ping')?.ns ?? [])) / 2_000;
  expect(roundTrip).toBeGreaterThanOrEqual(120);
  expect(roundTrip).toBeLessThan(140);
  for (const { wantedNs, monotonicNs } of output('sleep')?.sleeps ?? []) {
    expect(monotonicNs).toBeGreaterThanOrEqual(wantedNs);
    expect(monotonicNs - wantedNs).toBeLessThan(100_000);
  }
});

it('does exactly the same twice', () => {
  const [first, second] = runs.map(({ job }) => JSON.stringify([withoutHost(job.clock), [...job.steps]]));
  const speeds = runs.flatMap(({ job }) =>
    job.clock.windows.map((window) => virtualPerWall(window).toFixed(4)),
  );
  console.log(`virtual seconds per wall second: ${speeds.join(', ')}`);

  expect(second).toBe(first);
});
