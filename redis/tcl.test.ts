import { expect, it, jest } from '@jest/globals';
import { isProven, missing, runTcl, type Variant } from '../test/redis/tcl.js';
import { redisServers } from '../toolchain/redis.js';
import { silent } from '../vm/progress.js';

jest.setTimeout(900_000);

const work = { report: silent, signal: new AbortController().signal };
/** What takes seconds; `npm run test:redis` runs all files. */
const files = ['protocol', 'networking', 'pubsub', 'querybuf', 'limits', 'quit'].map(
  (name) => `unit/${name}`,
);

it.each(redisServers)('%s passes a part of its own tests as it does without FastIO', async (server) => {
  const stock = await runTcl({ server, variant: 'stock', files, clients: 3 }, work);
  expect(stock.passed.length).toBeGreaterThan(100);

  for (const variant of ['workers', 'inline', 'absent'] satisfies readonly Variant[]) {
    const result = await runTcl({ server, variant, files, clients: 3 }, work);
    expect({ variant, lost: missing(stock, result), failed: result.failed }).toEqual({
      variant,
      lost: [],
      failed: stock.failed,
    });
    expect({ variant, used: result.used, proven: isProven(variant, result) }).toMatchObject({ proven: true });
  }
});
