import { expect, it, jest } from '@jest/globals';
import { missing, results, runTcl, unproven } from '../test/redis/tcl.js';
import { silent } from '../vm/progress.js';

jest.setTimeout(900_000);

const work = { report: silent, signal: new AbortController().signal };
/** What takes seconds; `npm run test:redis` runs all files. */
const files = ['protocol', 'pubsub', 'limits', 'quit'].map((name) => `unit/${name}`);

const cases = [
  { server: 'valkey', variants: ['workers', 'absent'] },
  { server: 'redis', variants: ['workers', 'inline'] },
] as const;

it.each(cases)(
  '$server passes a part of its own tests as it does without FastIO',
  async ({ server, variants }) => {
    const stock = await runTcl({ server, variant: 'stock', files, clients: 3 }, work);
    expect(stock.passed.length).toBeGreaterThan(50);

    for (const variant of variants) {
      const result = await runTcl({ server, variant, files, clients: 3 }, work);
      expect({ variant, lost: missing(stock.passed, result.passed), failed: result.failed }).toEqual({
        variant,
        lost: [],
        failed: stock.failed,
      });
      expect({ variant, used: result.used, wrong: unproven(variant, result.used) }).toMatchObject({
        wrong: undefined,
      });
    }
  },
);

it('takes from the output of two runs the same names, and what failed', () => {
  const run = (master: number, drawn: number): string =>
    [
      ...Array.from({ length: master }, () => '[ok]: PSYNC2 #3899 regression: kill first replica (0 ms)'),
      `[ok]: PSYNC2: [NEW LAYOUT] Set #${master} as master (3 ms)`,
      `[ok]: PSYNC2: Set #${master + 1} to replicate from #${master} (12 ms)`,
      `[ok]: PSYNC2: cluster is consistent after load (x = ${drawn}) (4 ms)`,
      '[ok]: SET with #1 in its name (1 ms)',
      '[err]: GET what is not there in tests/unit/some.tcl',
      'Expected 1 to be equal to 2',
    ].join('\n');

  const first = results(run(1, 26434), 1);

  expect(first).toEqual(results(run(3, 7269), 1));
  expect(first.passed).toHaveLength(5);
  expect(first.passed).toContain('SET with #1 in its name');
  expect(first.failed).toEqual(['GET what is not there in tests/unit/some.tcl']);
  expect(results(run(1, 1), 0).passed).toHaveLength(6);
});
