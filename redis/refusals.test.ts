import { expect, it, jest } from '@jest/globals';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { modes, start, stop, work } from '../test/redis/sanitized.js';
import { withSymbolSize } from '../test/redis/symbol.js';
import { serverRoot } from '../toolchain/server-root.js';

jest.setTimeout(600_000);

it('says so and serves through plain sockets without the device', async () => {
  await using running = await start({ server: 'redis', module: 'workers 2' });
  const client = await running.client();

  expect(await client.ask('PING')).toBe('PONG');

  expect(running.log()).toContain('FastIO: serving through plain sockets');
  expect(await running.info('fastio')).toMatchObject({ fastio_mode: 'plain' });
  await stop(running);
});

it.each([
  ['a worker count that cannot be', 'workers 99', "workers: found '99', expected a number from 0 to 63"],
  ['an unknown argument', 'threads 2', "found argument 'threads', expected workers"],
  ['an argument without a value', 'workers', "argument 'workers' has no value"],
  ['a bad list of CPUs', 'cpus 1,,2', "cpus: found '1,,2', expected a list"],
  ['hybrid without workers', 'workers 0 hybrid 4', 'hybrid needs workers'],
])('refuses %s in one line', async (_, module, message) => {
  await using running = await start({ server: 'valkey', module });

  expect(await running.ended).toMatchObject({ status: 1 });
  expect(running.log()).toContain(`FastIO: ${message}`);
});

it('refuses a server of another version, naming both', async () => {
  await using running = await start({ server: 'valkey', module: 'workers 1', moduleOf: 'redis' });

  expect(await running.ended).toMatchObject({ status: 1 });
  expect(running.log()).toMatch(/FastIO: found server version \d+\.\d+\.\d+, expected Redis 8\.0\.2/);
});

it('is left alone by a Sentinel, which serves as if it were not there', async () => {
  await using running = await start({
    server: 'valkey',
    module: modes.workers,
    args: ['--sentinel'],
    configuration: 'dir /data',
  });
  const client = await running.client();

  expect(await client.ask('PING')).toBe('PONG');
  expect(await client.ask('MODULE', 'LIST')).toMatchObject({
    error: expect.stringMatching(/unknown command/),
  });
  expect(running.log()).not.toContain('FastIO');
});

it('leaves connections to I/O threads where there are some, and says so', async () => {
  await using running = await start({ server: 'redis', module: modes.workers, args: ['--io-threads', '2'] });

  expect(await (await running.client()).ask('PING')).toBe('PONG');
  expect(running.log()).toContain('FastIO: serving through plain sockets: io-threads is 2');
});

it('refuses a server of the same version whose state has another size, naming both', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fastio-build-'));
  try {
    const original = await readFile(join((await serverRoot(work)).directory, 'usr/bin/valkey-server'));
    const { image, before } = withSymbolSize(original, 'server', 1_234);
    await writeFile(join(directory, 'valkey-server'), image, { mode: 0o755 });

    await using running = await start({
      server: 'valkey',
      module: modes.workers,
      program: '/data/valkey-server',
      directory,
    });

    expect(await running.ended).toMatchObject({ status: 1 });
    expect(running.log()).toContain(
      `FastIO: found a server whose state has 1234 bytes, expected the ${before} of Debian's Valkey 8.1.1`,
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});
