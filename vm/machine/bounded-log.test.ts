import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { openBoundedLog } from './bounded-log.js';

it('adds to a file up to its limit, and then says that the rest is missing', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fastio-log-'));
  const path = join(directory, 'console.log');
  const log = openBoundedLog(path, 10);

  for (const text of ['12345', '67890', 'x', 'lost', 'lost']) log.write(text);
  await log.end();

  expect(await readFile(path, 'utf8')).toBe(
    '1234567890x\n[fastio: 10 bytes reached; the rest is not kept]\n',
  );
  await rm(directory, { recursive: true });
});

it('survives a file that cannot be written', async () => {
  const log = openBoundedLog('/no/such/directory/console.log');

  log.write('text');

  await expect(log.end()).resolves.toBeUndefined();
});
