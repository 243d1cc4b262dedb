import { expect, it, jest } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { command, type Client } from '../test/redis/client.js';
import { cases, eventually, modes, start, stop, work } from '../test/redis/sanitized.js';
import { redisServers } from '../toolchain/redis.js';
import { startServer } from '../test/redis/server.js';

jest.setTimeout(600_000);

it('keeps serving others while one client does not read', async () => {
  await using running = await start({ server: 'valkey', module: modes.workers });
  const [slow, quick] = [await running.client(), await running.client()];
  const value = 'y'.repeat(1_000_000);
  await quick.ask('SET', 'big', value);

  slow.pause();
  for (let index = 0; index < 64; index += 1) slow.send(command('GET', 'big'));
  for (let index = 0; index < 1_000; index += 1) expect(await quick.ask('ECHO', index)).toBe(String(index));
  slow.resume();

  for (let index = 0; index < 64; index += 1) expect((await slow.reply()) === value).toBe(true);
  await stop(running);
});

it.each(cases)('$server with $mode lets go of clients that die in mid-command', async ({ server, mode }) => {
  await using running = await start({ server, module: modes[mode] });

  for (let round = 0; round < 3; round += 1) {
    const clients = await Promise.all(Array.from({ length: 60 }, () => running.client()));
    for (const client of clients) {
      client.send(command('SET', 'a', 'b'.repeat(10_000)).repeat(3).slice(0, 25_000));
      client.send('*2\r\n$3\r\nGET\r\n$1');
    }
    for (const client of clients) client.reset();
  }

  await eventually(async () => (await running.info('fastio'))['fastio_flows'] === '1');
  await eventually(async () => (await running.info('clients'))['connected_clients'] === '1');
  await stop(running);
});

it('keeps what arrives while the server sleeps, and pauses senders that go on for long', async () => {
  await using running = await start({ server: 'valkey', module: modes.workers });
  const clients = await Promise.all(Array.from({ length: 8 }, () => running.client()));
  const value = 'z'.repeat(100_000);

  const sleeper = await running.client();
  sleeper.send(command('DEBUG', 'SLEEP', '1'));
  for (const client of clients) for (let i = 0; i < 40; i += 1) client.send(command('ECHO', `${i}${value}`));

  expect(await sleeper.reply()).toBe('OK');
  for (const client of clients) {
    for (let i = 0; i < 40; i += 1) expect((await client.reply()) === `${i}${value}`).toBe(true);
  }
  await stop(running);
});

it('tells a client too many why it is refused', async () => {
  await using running = await start({ server: 'redis', module: modes.workers, args: ['--maxclients', '5'] });
  const clients = await Promise.all(Array.from({ length: 5 }, () => running.client()));
  for (const client of clients) expect(await client.ask('PING')).toBe('PONG');

  const refused: Client = await running.client();

  expect(await refused.reply()).toEqual({ error: 'ERR max number of clients reached' });
  await refused.ended;
});

it('sends what it answered before it closes', async () => {
  await using running = await start({ server: 'redis', module: modes.workers });
  const client = await running.client();
  await client.ask('SET', 'big', 'q'.repeat(500_000));

  client.send(`${command('GET', 'big')}${command('QUIT')}`);

  expect(await client.reply()).toHaveLength(500_000);
  expect(await client.reply()).toBe('OK');
  await client.ended;
  await stop(running);
});

it.each(redisServers)('%s debugs a script in a child, which has the client to itself', async (server) => {
  await using running = await start({ server, module: modes.workers });
  const [debugging, other] = [await running.client(), await running.client()];
  const script = "redis.call('SET', 'key', 'of the child')\nreturn redis.call('GET', 'key')";

  expect(await debugging.ask('SCRIPT', 'DEBUG', 'YES')).toBe('OK');
  expect(await debugging.ask('EVAL', script, 0)).toContainEqual(expect.stringContaining('Stopped at 1'));
  expect(await other.ask('EXISTS', 'key')).toBe(0);
  expect(await debugging.ask('step')).toContainEqual(expect.stringContaining('stop reason = step over'));
  expect(await debugging.ask('continue')).toContainEqual('<endsession>');
  expect(await debugging.reply()).toBe('of the child');
  await debugging.ended;

  // It was the child's alone.
  expect(await other.ask('EXISTS', 'key')).toBe(0);
  expect(await running.info('fastio')).toMatchObject({ fastio_detached: '1' });
  await stop(running);
});

it('serves thousands of connections, if there are descriptors for them', async () => {
  // The user-space back end keeps a second descriptor for each.
  const [, descriptors = ''] =
    /^Max open files +\d+ +(\d+)/m.exec(await readFile('/proc/self/limits', 'utf8')) ?? [];
  const count = Math.min(3_000, Math.floor((Number(descriptors) - 300) / 2));
  const args = ['--maxclients', String(2 * count + 100)];
  await using running = await startServer({ server: 'valkey', module: modes.workers, args }, work);
  const clients: Client[] = [];

  while (clients.length < count) {
    const batch = Array.from({ length: Math.min(100, count - clients.length) }, () => running.client());
    clients.push(...(await Promise.all(batch)));
  }
  const answers = await Promise.all(clients.map((client, index) => client.ask('ECHO', index)));

  expect(answers).toEqual(clients.map((_, index) => String(index)));
  expect(Number((await running.info('fastio'))['fastio_flows'])).toBeGreaterThanOrEqual(count);
  for (const client of clients) client.reset();
  await eventually(async () => (await running.info('clients'))['connected_clients'] === '1');
  await stop(running);
});
