import { beforeAll, expect, it } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fakeJobs } from '../../test/suites/fake-jobs.js';
import { fixture } from '../../test/suites/runs.js';
import { silent } from '../../vm/progress.js';
import { normalisedText } from '../judge/results.js';
import type { SuiteOptions } from '../run/options.js';
import { runSuites } from '../run/run-suites.js';
import { loadResults } from '../schema/load.js';
import type { Results } from '../schema/results.js';
import { compareResults, compareRuns } from './compare.js';
import { mergeRuns } from './merge.js';

const watch = { report: silent, signal: new AbortController().signal };
const noiseless = (): Pick<SuiteOptions, 'runJob'> => ({ runJob: fakeJobs({}, 0).runJob });

let whole: SuiteOptions;
let results: Results;
let shards: readonly string[];

beforeAll(async () => {
  whole = fixture(undefined, { clock: 'virtual', ...noiseless() }).options;
  ({ results } = await runSuites(whole));
  const made: string[] = [];
  for (const index of [1, 2]) {
    const out = join(whole.out, '..', `shard-${index}`);
    await runSuites({ ...whole, ...noiseless(), out, shard: { index, count: 2 } });
    made.push(out);
  }
  shards = made;
});

/** The same results with every sample of one server multiplied. */
function scaled(factor: number, server = 'fastio'): Results {
  return {
    ...results,
    points: results.points.map((point) =>
      point.server !== server
        ? point
        : {
            ...point,
            samples: point.samples.map((sample, index) => ({
              ...sample,
              requestsPerSecond: sample.requestsPerSecond * factor * (1 + (index % 2) * 0.002),
            })),
          },
    ),
  };
}

it('finds no significant difference between two runs of the same', async () => {
  const again = fixture(undefined, { clock: 'virtual', runJob: fakeJobs({}, 0.01).runJob }).options;
  await runSuites(again);

  const comparison = await compareRuns(whole.out, again.out);

  expect(comparison.incomparable).toEqual([]);
  expect(new Set(comparison.points.map(({ difference }) => difference))).toEqual(
    new Set(['no significant difference']),
  );
  expect(comparison.failed).toBe(false);
});

it.each([
  [0.8, 'slower', true],
  [0.97, 'no significant difference', false],
  [1.3, 'faster', false],
])('calls %d times the throughput %s', (factor, difference, failed) => {
  const comparison = compareResults(results, scaled(factor));

  const fast = comparison.points.filter(({ point }) => point.includes('fastio'));
  expect(new Set(fast.map((one) => one.difference))).toEqual(new Set([difference]));
  expect(comparison.failed).toBe(failed);
  expect(fast[0]?.requestsPerSecond?.median).toBeCloseTo(factor, 2);
});

it('takes a point that stopped working for slower, and one that never worked for nothing', () => {
  const broken = (of: Results): Results => ({
    ...of,
    points: of.points.map((point) => ({ ...point, status: 'failed' as const, reasons: ['crash'] })),
  });

  expect(compareResults(results, broken(results)).points[0]?.difference).toBe('slower');
  expect(compareResults(broken(results), broken(results)).points[0]?.difference).toBe('NOT COMPARABLE');
});

it('refuses to compare different clocks, kernels and machines, and names what differs', () => {
  const other: Results = {
    ...results,
    clock: { ...results.clock, costProfile: 'emag' },
    fingerprint: { ...results.fingerprint, guest: { ...results.fingerprint.guest, kernelRelease: '6.1' } },
  };

  const { incomparable, points, failed } = compareResults(results, other);

  expect(incomparable).toEqual([
    'cost profile: A has "neoverse-n1", B has "emag"',
    'guest kernel: A has "6.12.107+deb13-cloud-arm64", B has "6.1"',
  ]);
  expect([points, failed]).toEqual([[], true]);
});

it('minds the host only where the host is the clock', () => {
  const elsewhere: Results = {
    ...results,
    fingerprint: { ...results.fingerprint, host: { ...results.fingerprint.host, cpuModel: 'Another' } },
  };
  const wall = (of: Results): Results => ({ ...of, clock: { ...of.clock, name: 'wall' } });

  expect(compareResults(results, elsewhere).incomparable).toEqual([]);
  expect(compareResults(wall(results), wall(elsewhere)).incomparable[0]).toContain('host CPU: A has');
});

it('merges shards into what one run would have given', async () => {
  const out = join(whole.out, '..', 'merged');

  const merged = await mergeRuns([...shards].reverse(), out, watch);

  const [found, expected] = [await loadResults(out), results].map(normalisedText);
  expect(JSON.parse(found ?? '')).toEqual(JSON.parse(expected ?? ''));
  expect(found === expected).toBe(true);
  expect(merged.results.progress).toMatchObject({ finished: 20, complete: true });
  expect(merged.results.shard).toBeNull();
});

it('refuses a missing shard, a shard twice, and a run that is no shard', async () => {
  const [first = '', second = ''] = shards;
  const out = join(whole.out, '..', 'never');

  await expect(mergeRuns([first], out, watch)).rejects.toThrow(/found 1 of 2 shards, expected 2 too/);
  await expect(mergeRuns([first, first], out, watch)).rejects.toThrow(/shard: found 1\/2, which .* is too/);
  await expect(mergeRuns([whole.out], out, watch)).rejects.toThrow(/shard: found null/);
  await expect(mergeRuns([second, '/nonexistent'], out, watch)).rejects.toThrow(/found no results\.json/);
});

it.each([
  ['seed', { seed: 8 }],
  ['lockHash', { lockFiles: [] }],
] as const)('refuses shards with another %s', async (key, changes) => {
  const out = join(whole.out, '..', `shard-${key}`);
  await runSuites({ ...whole, ...changes, ...noiseless(), out, shard: { index: 2, count: 2 } });

  const merging = mergeRuns([shards[0] ?? '', out], join(whole.out, '..', 'never'), watch);

  await expect(merging).rejects.toMatchObject({ code: 'INPUT_INVALID' });
  await expect(merging).rejects.toThrow(new RegExp(`${key}: found .*, expected`));
});

it('refuses a shard that is not finished, and raw records that are damaged', async () => {
  const out = join(whole.out, '..', 'shard-damaged');
  await runSuites({ ...whole, ...noiseless(), out, shard: { index: 2, count: 2 } });
  const run = (await loadResults(out)).order[0] ?? '';
  writeFileSync(join(out, 'raw', `${run}.json`), '{"version":2,"id":7}\n');

  const damaged = mergeRuns([shards[0] ?? '', out], join(whole.out, '..', 'never2'), watch);
  await expect(damaged).rejects.toThrow(/raw\/.*\.json:1 id: found 7, expected string/);

  const half = { ...(await loadResults(out)) };
  const file = join(out, 'results.json');
  rmSync(file);
  writeFileSync(
    file,
    JSON.stringify({ ...half, progress: { ...half.progress, finished: 1, complete: false } }),
  );
  const unfinished = mergeRuns([shards[0] ?? '', out], join(whole.out, '..', 'never3'), watch);
  await expect(unfinished).rejects.toThrow(/found 1 of 10 runs, expected all/);
});
