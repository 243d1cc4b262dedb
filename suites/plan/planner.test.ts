import { expect, it } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { askingSuite, scratch, smallSuite } from '../../test/suites/runs.js';
import { loadWords } from '../run/commands.js';
import { loadSuite } from '../schema/load.js';
import type { LoadedSuite } from '../schema/load.js';
import { bootsLeft } from './boots.js';
import type { PlanOptions } from './planner.js';
import { planRuns } from './planner.js';

const options: PlanOptions = {
  profile: 'quick',
  clock: 'wall',
  accel: 'tcg',
  arch: 'arm64',
  kernel: '6.12',
  seed: 3,
  force: false,
  costs: 'neoverse-n1',
};

async function small(text: string = smallSuite): Promise<readonly LoadedSuite[]> {
  const file = join(scratch(), 'small.yaml');
  writeFileSync(file, text);
  return [await loadSuite(file)];
}

const runIds = (plan: ReturnType<typeof planRuns>): readonly string[] =>
  plan.blocks.flatMap(({ runs }) => runs.map(({ id }) => id));

it('gives the same plan for the same seed, and another order for another', async () => {
  const suites = await small();

  const plans = [3, 3, 4].map((seed) => planRuns(suites, { ...options, seed }));

  const [first, second, third] = plans.map(runIds);
  expect(second).toEqual(first);
  expect(plans[1]?.hash).toBe(plans[0]?.hash);
  expect(third).not.toEqual(first);
  expect([...(third ?? [])].sort()).toEqual([...(first ?? [])].sort());
});

it('measures the baseline of every condition in every boot, and once more as its own rival', async () => {
  const { blocks } = planRuns(await small(), options);

  for (const { runs } of blocks) {
    const baseline = runs.filter(({ point }) => point.baseline).map(({ replica }) => replica);
    expect([...baseline].sort()).toEqual(['aa', 'main']);
    expect(new Set(runs.map(({ point }) => `${point.connections}/${point.messageBytes}`)).size).toBe(1);
  }
  expect(blocks).toHaveLength(4);
});

it('adds a baseline that the matrix does not name', async () => {
  const suites = await small(smallSuite.replace('servers: [epoll, fastio]', 'servers: [fastio]'));

  const { conditions } = planRuns(suites, options);

  expect(conditions[0]?.points.map(({ server, workers }) => `${server} x${workers}`)).toEqual([
    'epoll x1',
    'fastio x1',
    'fastio x2',
  ]);
});

it('gives each kind of request conditions, names and generator’s words of its own', async () => {
  const suites = await small(askingSuite);
  const [loaded] = suites;
  if (loaded === undefined) throw new Error('no suite');

  const { conditions, blocks } = planRuns(suites, options);

  expect(conditions.map(({ id }) => id)).toEqual([
    'c25-b64-get',
    'c25-b64-get-deep',
    'c50-b64-get',
    'c50-b64-get-deep',
  ]);
  expect(conditions[1]?.points.map(({ id }) => id)).toContain('small/fastio/w2/c25/b64/get-deep');
  const runs = blocks.flatMap((block) => block.runs);
  expect(new Set(runs.map(({ id }) => id)).size).toBe(runs.length);
  const asked = new Map(
    runs.map((run) => [
      run.point.request,
      loadWords(
        run,
        0,
        { loaded, profile: 'quick', clock: 'wall', seed: 1 },
        { port: 1, pid: 2, timeoutMs: 3 },
      )
        .join(' ')
        .replace(/.*--json - /, ''),
    ]),
  );
  expect([...asked]).toEqual(
    expect.arrayContaining([
      ['get', '--protocol get'],
      ['get-deep', '--protocol get --pipeline 16'],
    ]),
  );
});

it('interleaves: no contender is measured again before all others had their turn', async () => {
  const suites = await small(smallSuite.replace('processes: 1', 'processes: 6'));

  const { blocks } = planRuns(suites, options);

  const orders = new Set<string>();
  for (const { runs } of blocks) {
    for (let round = 0; round < 6; round += 1) {
      const turn = runs.slice(round * 5, round * 5 + 5);
      expect(new Set(turn.map(({ process }) => process))).toEqual(new Set([round]));
      orders.add(turn.map(({ point, replica }) => `${point.server}${point.workers}${replica}`).join());
    }
  }
  expect(orders.size).toBeGreaterThan(10);
});

it('deals every block to exactly one shard, in the order of the whole', async () => {
  const suites = await small();
  const whole = planRuns(suites, options);

  const shards = [1, 2, 3].map((index) => planRuns(suites, { ...options, shard: { index, count: 3 } }));

  expect(shards.flatMap(runIds).sort()).toEqual([...runIds(whole)].sort());
  expect(new Set([whole, ...shards].map(({ hash }) => hash)).size).toBe(1);
  expect(shards.every(({ totalBlocks }) => totalBlocks === 4)).toBe(true);
});

it.each([
  [0, 2],
  [3, 2],
])('refuses shard %i of %i', async (index, count) => {
  const suites = await small();

  expect(() => planRuns(suites, { ...options, shard: { index, count } })).toThrow(
    `--shard: found ${index}/${count}, expected i/n with 1 ≤ i ≤ n`,
  );
});

it('pins the watcher, the server and the generator to CPUs of their own', async () => {
  const { conditions } = planRuns(await small(), options);

  const point = conditions[0]?.points.find(({ id }) => id === 'small/fastio/w2/c25/b64');
  expect(point?.placement).toEqual({ serverCpus: [1, 2, 3], loadCpus: [5, 6, 7], oversubscribed: false });
});

it('refuses fewer CPUs than threads by line, unless forced', async () => {
  const text = smallSuite.replace('workers: [1, 2], connections', 'workers: [1, 4], connections');
  const suites = await small(text);
  const line = text.slice(0, text.indexOf('workers: [1, 4]')).split('\n').length;

  expect(() => planRuns(suites, options)).toThrow(
    new RegExp(
      `small\\.yaml:${line} .*found fastio x4, which needs 9 CPUs .* expected at most vm\\.cpus, which is 8`,
    ),
  );
  const forced = planRuns(suites, { ...options, force: true });
  const flags = forced.conditions[0]?.points.map(({ placement }) => placement.oversubscribed);
  expect(flags).toEqual([false, false, false, true]);
});

it('expects virtual time to take longer, and the whole longer than its parts', async () => {
  const suites = await small();
  const seconds = (changes: Partial<PlanOptions>): number =>
    planRuns(suites, { ...options, ...changes }).estimateSeconds;

  expect(seconds({ accel: 'kvm' })).toBeLessThan(seconds({}));
  expect(seconds({ shard: { index: 1, count: 2 } })).toBeLessThan(seconds({}));
});

it('shares a block among guests as evenly as may be under the virtual clock, and gives it one by the wall clock', async () => {
  const suites = await small(smallSuite.replaceAll('processes: 1', 'processes: 3'));
  const plan = planRuns(suites, options);
  const [block] = plan.blocks;

  const shares = bootsLeft({ blocks: plan.blocks.slice(0, 1) }, 'virtual');
  expect(shares.map(({ runs }) => runs.length)).toEqual([5, 5, 5]);
  expect(shares.flatMap(({ runs }) => runs)).toEqual(block?.runs);
  expect(bootsLeft(plan, 'wall').map(({ runs }) => runs)).toEqual(plan.blocks.map(({ runs }) => runs));
});

it('repeats a boot whole under the virtual clock unless its runs were measured alone, and only what is missing by the wall clock', async () => {
  const plan = planRuns(await small(), options);
  const [first, ...others] = plan.blocks.map(({ runs }) => runs);
  const done = new Set(others.flat().map(({ id }) => id)).add(first?.[0]?.id ?? '');

  const left = (clock: 'virtual' | 'wall', alone = false): unknown =>
    bootsLeft(plan, clock, (id) => (done.has(id) ? { alone } : undefined)).map(({ runs }) => runs);
  expect(left('virtual')).toEqual([first]);
  expect(left('virtual', true)).toEqual(first?.slice(1).map((run) => [run]));
  expect(left('wall')).toEqual([first?.slice(1)]);
});
