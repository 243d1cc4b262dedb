import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { normalisedText, resultsHash } from '../../suites/judge/results.js';
import { loadResults } from '../../suites/schema/load.js';
import { run, runOrThrow, type RunResult } from '../../vm/exec.js';
import { projectRoot } from '../../vm/paths.js';
import { writeTinySuite } from '../fixtures/tiny-suite.js';

/** An empty directory that knows nothing of the repository. */
let elsewhere: string;

beforeAll(async () => {
  elsewhere = mkdtempSync(join(tmpdir(), 'fastio-package-'));
  const packed = await runOrThrow(['npm', 'pack', '--silent', '--pack-destination', elsewhere], {
    cwd: projectRoot,
  });
  const archive = join(elsewhere, packed.stdout.trim().split('\n').at(-1) ?? '');
  writeFileSync(join(elsewhere, 'package.json'), '{ "private": true }\n');
  await runOrThrow(['npm', 'install', '--no-audit', '--no-fund', '--ignore-scripts', archive], {
    cwd: elsewhere,
  });
  writeTinySuite(elsewhere, 2);
  for (const args of [
    ['--seed', '7', '--out', 'whole'],
    ['--seed', '7', '--shard', '1/2', '--out', 'one'],
    ['--seed', '7', '--shard', '2/2', '--out', 'two'],
  ]) {
    const how = ['--profile', 'quick', '--clock', 'virtual'];
    const { status, stderr } = await fastio('run', './tiny.yaml', ...how, ...args);
    if (status !== 0) throw new Error(`fastio run ${args.join(' ')}: status ${status}\n${stderr}`);
  }
});

afterAll(() => {
  rmSync(elsewhere, { recursive: true, force: true });
});

/** As a user types it, in the directory without the repository. */
async function fastio(...args: readonly string[]): Promise<RunResult> {
  return await run(['npx', '--no-install', 'fastio', ...args], { cwd: elsewhere });
}

function filesIn(directory: string): readonly string[] {
  return readdirSync(join(elsewhere, directory)).sort();
}

it('holds no tests’ programs and no TypeScript, and both licences', () => {
  const root = join(elsewhere, 'node_modules/@fastio/testbed');
  const files = readdirSync(root, { recursive: true }) as string[];

  expect(
    files.filter((file) => /\.test\.|(?<!\.d)\.ts$/.test(file) && !file.startsWith('node_modules')),
  ).toEqual([]);
  expect(files).toEqual(
    expect.arrayContaining(['LICENSE', 'LICENSES/GPL-2.0.txt', 'kmod/Kbuild', 'Dockerfile']),
  );
});

it('finds outside of the repository that a run works', async () => {
  const { status, stdout, stderr } = await fastio('doctor');

  expect(`${stdout}${stderr}`).toContain('a run works here');
  expect(status).toBe(0);
});

it('measures outside of the repository, with a report', async () => {
  const results = await loadResults(join(elsewhere, 'whole'));

  expect(results.points.map(({ status, errors }) => ({ status, errors }))).toEqual([
    { status: 'ok', errors: 0 },
    { status: 'ok', errors: 0 },
  ]);
  expect(readFileSync(join(elsewhere, 'whole/report.md'), 'utf8')).toContain('fastio');
});

it('merges shards into the very same results, byte for byte', async () => {
  const merged = await fastio('merge', 'two', 'one', '--out', 'merged');

  expect(merged).toMatchObject({ status: 0 });
  const [whole, joined] = [
    await loadResults(join(elsewhere, 'whole')),
    await loadResults(join(elsewhere, 'merged')),
  ];
  expect(normalisedText(joined)).toBe(normalisedText(whole));
  const [one, two] = [filesIn('one/raw'), filesIn('two/raw')];
  expect([one.length, two.length].every((count) => count > 0)).toBe(true);
  expect(filesIn('merged/raw')).toEqual([...one, ...two].sort());
  expect(filesIn('merged/raw')).toEqual(filesIn('whole/raw'));
  expect((await fastio('compare', '--exact', 'whole', 'merged')).status).toBe(0);
  console.log(`sha256 of a whole run and of two shards: ${resultsHash(whole)} ${resultsHash(joined)}`);
});

it('refuses shards that do not make a whole, and says which', async () => {
  const short = await fastio('merge', 'one', '--out', 'short');
  const twice = await fastio('merge', 'one', 'one', '--out', 'twice');
  const wrong = await fastio('run', './tiny.yaml', '--shard', '3/2', '--out', 'wrong');

  expect(short.status).toBe(2);
  expect(short.stderr).toContain('found 1 of 2 shards, expected 2 too');
  expect(twice.status).toBe(2);
  expect(twice.stderr).toContain('found 1/2, which one is too');
  expect(wrong.status).toBe(2);
  expect(wrong.stderr).toContain('Expected I/N with I from 1 to N.');
});

it.each([
  ['seed', 8],
  ['lockHash', 'f00d'],
])('refuses shards of another %s', async (key, other) => {
  const file = join(elsewhere, 'two/results.json');
  const text = readFileSync(file, 'utf8');
  const results = JSON.parse(text) as Record<string, unknown>;
  writeFileSync(file, JSON.stringify({ ...results, [key]: other }));

  const { status, stderr } = await fastio('merge', 'one', 'two', '--out', `mixed-${key}`);

  writeFileSync(file, text);
  const [found, expected] = [JSON.stringify(other), JSON.stringify(results[key])];
  expect(stderr).toContain(`two/results.json: ${key}: found ${found}, expected ${expected} as in one`);
  expect(status).toBe(2);
});

it('packs the same bundle twice, which says whether it is whole', async () => {
  const first = await fastio('bundle', 'whole', '--out', 'first.tar.gz');
  await fastio('bundle', 'whole', '--out', 'second.tar.gz');
  const bytes = readFileSync(join(elsewhere, 'first.tar.gz'));
  writeFileSync(join(elsewhere, 'torn.tar.gz'), bytes.subarray(0, bytes.length - 1_000));

  const good = await fastio('bundle', '--verify', 'first.tar.gz');
  const torn = await fastio('bundle', '--verify', 'torn.tar.gz');

  expect(first.stdout).toContain('--seed 7');
  expect(readFileSync(join(elsewhere, 'second.tar.gz')).equals(bytes)).toBe(true);
  expect(good).toMatchObject({ status: 0 });
  expect(torn.status).toBe(2);
  expect(torn.stderr).toContain('torn.tar.gz');
});
