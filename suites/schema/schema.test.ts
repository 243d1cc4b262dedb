import { expect, it } from '@jest/globals';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratch, smallClaims, smallSuite } from '../../test/suites/runs.js';
import type { JsonSchemaName } from './json-schema.js';
import { jsonSchemaText, jsonSchemas } from './json-schema.js';
import { loadClaims, loadResults, loadSuite, suitesDir } from './load.js';

function fileWith(name: string, text: string): string {
  const file = join(scratch(), name);
  writeFileSync(file, text);
  return file;
}

/** The line of the first occurrence of `text`, from 1. */
function lineOf(source: string, text: string): number {
  return source.slice(0, source.indexOf(text)).split('\n').length;
}

it.each(Object.keys(jsonSchemas) as JsonSchemaName[])('has committed an up-to-date %s', (name) => {
  // When this fails: npm run schemas
  expect(readFileSync(join(suitesDir, name), 'utf8')).toBe(jsonSchemaText(name));
});

it('accepts the project’s own suites and claims', async () => {
  const echo = await loadSuite('echo');
  const { claims } = await loadClaims();

  expect(echo.suite.baseline).toEqual({ server: 'epoll', workers: 1 });
  expect(claims.map(({ id }) => id)).toEqual(
    expect.arrayContaining(['ratio-1', 'ratio-5', 'linear', 'absolute-epoll', 'absolute-5', 'per-cpu-5']),
  );
});

it.each([
  ['targets.yaml', 'scaling', 41],
  ['node-targets.yaml', 'node', 6],
])(
  'names points of its own suite in each of %s, and calls none of them published',
  async (file, name, count) => {
    const { claims } = await loadClaims(join(suitesDir, file), [await loadSuite(name)]);

    expect(claims.length).toBeGreaterThanOrEqual(count);
    expect(new Set(claims.map(({ kind }) => kind))).toEqual(new Set(['target']));
  },
);

it('names points of the suites of Redis and Valkey in their targets, those of the quick profile among them', async () => {
  const suites = await Promise.all(['redis', 'valkey'].map((name) => loadSuite(name)));

  const { claims } = await loadClaims(join(suitesDir, 'redis-targets.yaml'));

  expect(claims.map(({ id }) => id)).toEqual(
    [['inline', '1', '2', '3'], ['threads-1', 'threads-2', 'threads-3'], ['growth']].flatMap((kinds) =>
      ['redis', 'valkey'].flatMap((server) => kinds.map((which) => `${server}-${which}`)),
    ),
  );
  for (const { suite, name } of suites) {
    expect(suite.baseline).toEqual({ server: name, workers: 1 });
    expect(suite.profiles.quick.points.flatMap(({ servers }) => servers)).toEqual([
      `${name}-inline`,
      `${name}-fastio`,
      `${name}-polling`,
    ]);
  }
});

it('carries the published figures digit for digit', async () => {
  const { claims } = await loadClaims();
  const published = claims
    .filter(({ metric }) => metric === 'requestsPerSecond')
    .map((claim) => claim.published);
  const ratios = claims.filter(({ metric }) => metric === 'ratioToBaseline').map((claim) => claim.published);

  expect(published).toEqual([82_896, 82_802, 161_260, 257_491, 301_168, 393_052]);
  ratios.forEach((ratio, index) => {
    expect(ratio).toBeCloseTo((published[index + 1] ?? 0) / 82_896, 4);
  });
});

interface Fault {
  readonly name: string;
  readonly change: (text: string) => string;
  /** Text on the line that is to be named. */
  readonly at: string;
  readonly says: string;
}

const faults: readonly Fault[] = [
  {
    name: 'an unknown key',
    change: (text) => text.replace('memoryMiB: 512', 'memoryMiB: 512, colour: red'),
    at: 'colour',
    says: 'vm.colour: found an unknown key',
  },
  {
    name: 'a wrong type',
    change: (text) => text.replace('cpus: 8', 'cpus: many'),
    at: 'cpus: many',
    says: 'vm.cpus: found "many", expected number',
  },
  {
    name: 'a missing key',
    change: (text) => text.replace('baseline: { server: epoll, workers: 1 }', 'baseline: { server: epoll }'),
    at: 'baseline',
    says: 'baseline.workers: found nothing, expected number',
  },
  {
    name: 'no connections',
    change: (text) => text.replace('connections: [25, 50]', 'connections: [0]'),
    at: 'connections: [0]',
    says: 'connections[0]: found 0, expected at least 1',
  },
  {
    name: 'a message beyond 1 MiB',
    change: (text) => text.replace('messageBytes: [64]', 'messageBytes: [1048577]'),
    at: 'messageBytes: [1048577]',
    says: 'found 1048577, expected at most 1048576',
  },
  {
    name: 'more workers than CPUs',
    change: (text) => text.replace('workers: [1, 2], connections', 'workers: [1, 9], connections'),
    at: 'workers: [1, 9]',
    says: 'workers[1]: found 9 workers, expected at most vm.cpus, which is 8',
  },
  {
    name: 'requests that the suite does not define',
    change: (text) => text.replace('messageBytes: [64]', 'messageBytes: [64], requests: [get]'),
    at: 'requests: [get]',
    says: 'found "get", expected none: the suite has no load.requests',
  },
  {
    name: 'a kind of request left open',
    change: (text) =>
      text.replace('  format: fastio-load', "  format: fastio-load\n  requests: { get: '-g' }"),
    at: 'servers: [epoll, fastio]',
    says: 'found no requests, expected a list of some of load.requests: get',
  },
  {
    name: 'a server that is not defined',
    change: (text) => text.replace('servers: [epoll, fastio]', 'servers: [epoll, kqueue]'),
    at: 'kqueue',
    says: 'found "kqueue", expected one of epoll, fastio',
  },
  {
    name: 'a baseline that is not defined',
    change: (text) => text.replace('server: epoll, workers', 'server: select, workers'),
    at: 'select',
    says: 'baseline.server: found "select", expected one of epoll, fastio',
  },
  {
    name: 'a module that is not defined',
    change: (text) => text.replace('module: fastio', 'module: slowio'),
    at: 'slowio',
    says: 'servers.fastio.module: found "slowio"',
  },
  {
    name: 'a placeholder that nobody fills',
    change: (text) => text.replace('--threads {workers}', '--threads {cores}'),
    at: '{cores}',
    says: 'servers.epoll.run: found {cores}, expected one of {port} {workers}',
  },
  {
    name: 'a ready line that is no regular expression',
    change: (text) => text.replace('title: FastIO', 'title: FastIO\n    ready: "READY ("'),
    at: 'ready: "READY ("',
    says: 'expected a regular expression',
  },
  {
    name: 'files without sources',
    change: (text) => text.replace('title: FastIO', 'title: FastIO\n    files: [a]'),
    at: 'files: [a]',
    says: 'found files without source, expected both or neither',
  },
  {
    name: 'a server with an impossible name',
    change: (text) => text.replace('  fastio:\n    title', '  Fast IO:\n    title'),
    at: 'Fast IO:',
    says: 'found the name "Fast IO", expected text like /^[a-z]',
  },
  {
    name: 'too few samples for an interval',
    change: (text) => text.replace('boots: 2', 'boots: 1').replace('windows: 2', 'windows: 1'),
    at: 'windows: 1',
    says: 'found 1 × 1 × 1 samples per point, expected at least 3',
  },
  {
    name: 'broken YAML',
    change: (text) => text.replace('modules:', 'modules: ]'),
    at: 'modules: ]',
    says: '',
  },
  {
    name: 'a key given twice',
    change: (text) => text.replace('modules:\n', 'vm: { cpus: 2, memoryMiB: 512 }\nmodules:\n'),
    at: 'vm: { cpus: 2',
    says: 'unique',
  },
];

it.each(faults)('names the line of $name', async ({ change, at, says }) => {
  const text = change(smallSuite);
  const file = fileWith('small.yaml', text);

  const failure = (await loadSuite(file).catch((error: unknown) => error)) as Error & {
    code: string;
    detail: string[];
  };

  expect(text).not.toBe(smallSuite);
  expect(failure.code).toBe('INPUT_INVALID');
  const all = [failure.message, ...failure.detail];
  expect(all).toEqual(expect.arrayContaining([expect.stringMatching(`^${file}:${lineOf(text, at)} `)]));
  expect(all.join('\n')).toContain(says);
});

it.each([
  ['a file that is not there', '/nonexistent/suite.yaml', 'found nothing, expected a file'],
  ['a directory', '/', 'found a directory, expected a file'],
])('says what it found in place of %s', async (_what, path, says) => {
  await expect(loadSuite(path)).rejects.toMatchObject({ code: 'INPUT_INVALID', message: `${path}: ${says}` });
});

it.each([
  [
    'a point its suite does not measure',
    'workers: 2, connections: 25',
    'workers: 7, connections: 25',
    'point:',
    'found fastio x7',
  ],
  [
    'a suite that is not there',
    'suite: small',
    'suite: large',
    'suite: large',
    'there is no suites/large.yaml',
  ],
  [
    'a tolerance that forgives everything',
    'tolerance: 0.1',
    'tolerance: 1.5',
    'tolerance',
    'found 1.5, expected at most 0.9',
  ],
  [
    'no condition at all',
    'comparable: { virtual: {} }',
    'comparable: {}',
    'comparable',
    'expected wall, virtual or both',
  ],
  ['an unknown metric', 'metric: ratioToBaseline', 'metric: speed', 'metric: speed', ''],
])('refuses a claim with %s, by line', async (_what, from, to, at, says) => {
  const suite = await loadSuite(fileWith('small.yaml', smallSuite));
  const text = smallClaims.replace(from, to);
  const file = fileWith('claims.yaml', text);

  const failure = (await loadClaims(file, [suite]).catch((error: unknown) => error)) as Error;

  expect(text).not.toBe(smallClaims);
  expect(failure.message).toMatch(new RegExp(`^${file}:${lineOf(text, at)} `));
  expect(failure.message).toContain(says);
});

it.each([
  ['fall', '[1, 2, 2]', 'points.workers[2]: found 2 after 2, expected numbers of workers that grow'],
  ['are measured in no profile', '[1, 9]', 'found fastio x9'],
  ['are alone', '[1]', 'points.workers'],
])('refuses growth over numbers of workers that %s', async (_what, workers, says) => {
  const suite = await loadSuite(fileWith('small.yaml', smallSuite));
  const text = smallClaims
    .replace('ratioToBaseline', 'growthUntilBusy\n    busyFrom: 0.95')
    .replace('point:', 'points:')
    .replace('workers: 2', `workers: ${workers}`);

  const loading = loadClaims(fileWith('claims.yaml', text), [suite]);

  await expect(loading).rejects.toThrow(says);
});

it('refuses two claims of one id', async () => {
  const suite = await loadSuite(fileWith('small.yaml', smallSuite));
  const twice = smallClaims + smallClaims.replace('claims:\n', '');

  const failure = loadClaims(fileWith('claims.yaml', twice), [suite]);

  await expect(failure).rejects.toThrow(/claims\[1\]\.id: found "ratio-2" again/);
});

it('refuses results of another version by line, and directories that are not runs', async () => {
  const directory = scratch();
  await expect(loadResults(directory)).rejects.toThrow(
    /found no results\.json, expected the directory of a run/,
  );

  writeFileSync(join(directory, 'results.json'), '{\n "tool": 1,\n "version": 99\n}\n');
  await expect(loadResults(directory)).rejects.toThrow(/results\.json:3 version: found 99, expected 1/);

  writeFileSync(join(directory, 'results.json'), '{ "version": 1, "profile": ');
  await expect(loadResults(directory)).rejects.toThrow(/results\.json:1 found text that is not JSON/);
});
