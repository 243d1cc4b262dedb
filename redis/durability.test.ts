import { expect, it, jest } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, modes, start, stop } from '../test/redis/sanitized.js';
import { freePort, type RunningServer } from '../test/redis/server.js';
import { redisServers } from '../toolchain/redis.js';

jest.setTimeout(600_000);

/** How many clients write at a time. */
const writers = 8;

interface Load {
  /** Keys whose SET was answered, in all. */
  readonly acknowledged: string[];
  readonly end: () => void;
  /** Resolves when every client has stopped: because of `end`, or because its server is gone. */
  readonly over: Promise<unknown>;
}

/** Clients that set one new key after the other, each to its own name, as fast as they are answered. */
async function load(server: RunningServer, prefix: string): Promise<Load> {
  const clients = await Promise.all(Array.from({ length: writers }, () => server.client()));
  const acknowledged: string[] = [];
  let ended = false;
  const over = Promise.allSettled(
    clients.map(async (client, number) => {
      for (let index = 0; !ended; index += 1) {
        const key = `${prefix}:${number}:${index}`;
        expect(await client.ask('SET', key, key)).toBe('OK');
        acknowledged.push(key);
      }
    }),
  );
  const end = (): void => {
    ended = true;
  };
  return { acknowledged, end, over };
}

async function expectKeys(server: RunningServer, keys: readonly string[]): Promise<void> {
  const client = await server.client();
  for (let at = 0; at < keys.length; at += 1_000) {
    const some = keys.slice(at, at + 1_000);
    expect(await client.ask('MGET', ...some)).toEqual(some);
  }
  client.close();
}

async function digest(server: RunningServer): Promise<string> {
  const client = await server.client();
  const answer = await client.ask('DEBUG', 'DIGEST');
  client.close();
  if (typeof answer !== 'string') throw new Error(`DEBUG DIGEST: found ${JSON.stringify(answer)}`);
  return answer;
}

async function expectInSync(master: RunningServer, replica: RunningServer): Promise<string> {
  await eventually(async () => (await digest(master)) === (await digest(replica)));
  return digest(master);
}

it.each(redisServers)('%s answers every request while it forks again and again', async (server) => {
  await using running = await start({ server, module: modes.workers });
  const control = await running.client();
  const clients = await Promise.all(Array.from({ length: 10 }, () => running.client()));
  let forks = 0;
  let over = false;

  const traffic = clients.map(async (client, number) => {
    for (let index = 0; !over || index < 100; index += 1) {
      expect(await client.ask('SET', `key:${number}`, index)).toBe('OK');
      expect(await client.ask('GET', `key:${number}`)).toBe(String(index));
    }
  });
  while (forks < 4) {
    if (typeof (await control.ask('BGSAVE')) === 'string') forks += 1;
    await eventually(async () => (await running.info('persistence'))['rdb_bgsave_in_progress'] === '0');
  }
  over = true;
  await Promise.all(traffic);

  expect(await running.info('persistence')).toMatchObject({ rdb_last_bgsave_status: 'ok' });
  await stop(running);
});

it.each(redisServers)(
  '%s keeps a replica in sync under load, through kills of the master',
  async (server) => {
    const directory = await mkdtemp(join(tmpdir(), 'fastio-master-'));
    const port = await freePort();
    const persistent = {
      server,
      module: modes.workers,
      port,
      directory,
      args: ['--appendonly', 'yes', '--appendfsync', 'always'],
    };
    const acknowledged: string[] = [];
    try {
      await using replica = await start({
        server,
        module: modes.workers,
        args: ['--replicaof', `127.0.0.1 ${port}`],
      });
      for (const round of ['first', 'second']) {
        await using master = await start(persistent);
        // Of what was acknowledged before it was killed nothing is lost.
        await expectKeys(master, acknowledged);
        const { acknowledged: now, over } = await load(master, round);
        await eventually(async () => (await replica.info('replication'))['master_link_status'] === 'up');
        const before = now.length;
        await eventually(() => Promise.resolve(now.length >= before + 500));

        master.kill('SIGKILL');

        await over;
        acknowledged.push(...now);
      }
      await using master = await start(persistent);
      await eventually(async () => (await replica.info('replication'))['master_link_status'] === 'up');
      const third = await load(master, 'third');
      await eventually(() => Promise.resolve(third.acknowledged.length >= 500));
      third.end();
      await third.over;
      acknowledged.push(...third.acknowledged);

      const last = await expectInSync(master, replica);
      await expectKeys(replica, acknowledged);
      expect(Number((await master.info('fastio'))['fastio_attached'])).toBeGreaterThan(writers);
      master.kill('SIGKILL');
      await master.ended;
      const client = await replica.client();
      expect(await client.ask('REPLICAOF', 'NO', 'ONE')).toBe('OK');
      expect(await digest(replica)).toBe(last);
      expect(await client.ask('SET', 'promoted', 'yes')).toBe('OK');
      await stop(replica);
    } finally {
      await rm(directory, { recursive: true });
    }
  },
);
