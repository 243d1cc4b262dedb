import { expect, it, jest } from '@jest/globals';
import { passList, passTable } from '../test/redis/records.js';
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

it('lists tests by what each variant made of them, and leaves out variants that were not run', () => {
  const used = { servers: 1, accepted: 3, attached: 2, detached: 1, plain: 1, turnedAway: 0 };
  const result = { passed: ['GET', 'SET'], later: [], lost: [], failed: [], used };
  const records = [
    {
      server: 'redis' as const,
      file: 'unit/some',
      results: {
        stock: { ...result, failed: ['DEL in tests/unit/some.tcl'] },
        workers: { ...result, passed: ['GET'], later: ['SET'] },
        absent: { ...result, passed: ['SET'], lost: ['GET'] },
      },
    },
    { server: 'redis' as const, file: 'unit/other', results: { stock: result } },
  ];

  expect(passList('redis', records).split('\n')).toEqual([
    'Tests of redis that pass: S stock, W workers, A absent.',
    'In small letters: not at the first attempt. Minus: never. Dot: not run.',
    '',
    'unit/some: connections W 2 on rings, A 1 plain',
    '  SW- GET',
    '  SwA SET',
    '  not even by the stock server: DEL in tests/unit/some.tcl',
    '',
    'unit/other',
    '  S.. GET',
    '  S.. SET',
    '',
  ]);
  expect(passTable(records).split('\n').slice(2)).toEqual([
    '| `unit/some` | 2 | 2 | 1 |',
    '| `unit/other` | 2 | - | - |',
    '| all | 4 of 4 | 2 of 2 | 1 of 2 |',
  ]);
});
