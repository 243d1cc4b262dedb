import { expect, it, jest } from '@jest/globals';
import { missing, runTcl, unproven } from '../test/redis/tcl.js';
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
