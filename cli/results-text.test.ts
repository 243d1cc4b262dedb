import { beforeAll, expect, it } from '@jest/globals';
import { fixture } from '../test/suites/runs.js';
import { runSuites } from '../suites/run/run-suites.js';
import type { Results } from '../suites/schema/results.js';
import { resumeCommand } from './commands/run.js';
import { resultsText } from './results-text.js';

let results: Results;
beforeAll(async () => {
  ({ results } = await runSuites(fixture(undefined, { clock: 'virtual' }).options));
});

it('sets figures beside the published ones, with a verdict on each claim', () => {
  const text = resultsText(results, (_, plain) => plain);

  const row = text.split('\n').find((line) => line.startsWith('FastIO x2')) ?? '';
  expect(row.split(/ {2,}/).slice(0, 4)).toEqual([
    'FastIO x2',
    expect.stringMatching(/^14\d,\d00$/),
    expect.stringMatching(/^2\.\d\d$/),
    '1.95',
  ]);
  expect(text).toMatch(/^PASS +ratio-2 +Two kernel workers .*: measured 2\.\d\d \(2\.\d\d to 2\.\d\d\)$/m);
  expect(text).toContain('virtual time, modelled (profile neoverse-n1)');
  expect(text).toContain('20 of 20 server starts');
});

it('has no columns for what was published where nothing was', () => {
  const text = resultsText({ ...results, claims: [] }, (_, plain) => plain);

  expect(text).toMatch(/^ +requests\/s +ratio +CPUs/m);
  expect(resultsText(results, (_, plain) => plain)).toMatch(/^ +requests\/s +ratio +published +CPUs/m);
});

it('colours verdicts and nothing else of a claim', () => {
  const text = resultsText(results, (sgr, plain) => `<${sgr}>${plain}</>`);

  expect(text).toContain('<32>PASS          </>  ratio-2');
});

it('says why a point has no good figure', () => {
  const [first, ...rest] = results.points;
  if (first === undefined) throw new Error('no points');
  const failed = { ...first, status: 'failed' as const, reasons: ['epoll x1 was ended by signal 11'] };

  const text = resultsText({ ...results, points: [failed, ...rest] }, (_, plain) => plain);

  expect(text).toMatch(/^epoll x1 .*failed: epoll x1 was ended by signal 11$/m);
});

it.each([
  ['run echo --seed 3', 'npx fastio run echo --seed 3 --resume results/a-1'],
  ['reproduce --out x --profile ci', 'npx fastio reproduce --profile ci --resume results/a-1'],
  ['reproduce --out=x --resume=y', 'npx fastio reproduce --resume results/a-1'],
])('makes of "fastio %s" the command that goes on', (given, expected) => {
  expect(resumeCommand('results/a-1', ['node', 'fastio', ...given.split(' ')])).toBe(expected);
});

it('quotes what a shell would take apart', () => {
  expect(resumeCommand("my $dir's", ['node', 'fastio', 'run', 'a b.yaml'])).toBe(
    "npx fastio run 'a b.yaml' --resume 'my $dir'\\''s'",
  );
});
