import { expect, it, jest } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { command, openClient, type Client } from '../test/redis/client.js';
import { freePort, startServer, type RunningServer, type ServerSpec } from '../test/redis/server.js';
import { layOut } from '../toolchain/artifacts.js';
import { checkC } from '../toolchain/check.js';
import { portableServers } from '../toolchain/portable-programs.js';
import { redisServers } from '../toolchain/redis.js';
import { runOrThrow } from '../vm/exec.js';
import { hostArchitecture } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';
import { until } from '../vm/wait.js';

// Debian's servers run on this host, with libfastio's user-space back end where the module's device is not there.
jest.setTimeout(600_000);

const work = { report: silent, signal: new AbortController().signal };
const modes = {
  workers: 'backend user workers 2',
  inline: 'backend user workers 0',
  hybrid: 'backend user workers 1 hybrid 4',
};
/** Each mode and each server, if not each with each. */
const cases = [
  { server: 'valkey', mode: 'workers' },
  { server: 'valkey', mode: 'hybrid' },
  { server: 'redis', mode: 'inline' },
] as const;

function start(spec: ServerSpec): Promise<RunningServer> {
  return startServer({ flavour: 'asan', ...spec }, work);
}

/** Waits until a probe holds; the test's own time limit ends it. */
async function eventually(probe: () => Promise<boolean>): Promise<void> {
  await until(probe, { everyMs: 50, signal: AbortSignal.timeout(60_000) });
}

/** Ends a server in order: what the sanitizers found makes the status. */
async function stop(server: RunningServer): Promise<void> {
  const client = await server.client();
  client.send(command('SHUTDOWN', 'NOSAVE'));
  const { status } = await server.ended;
  expect({ status, log: status === 0 ? '' : server.log().slice(-4_000) }).toEqual({ status: 0, log: '' });
}

it.each(cases)('$server serves through the rings with $mode', async ({ server, mode }) => {
  await using running = await start({ server, module: modes[mode] });
  const client = await running.client();

  expect(await client.ask('SET', 'key', 'value')).toBe('OK');
  expect(await client.ask('GET', 'key')).toBe('value');

  const info = await running.info('fastio');
  expect(info).toMatchObject({
    fastio_mode: expect.stringMatching(/workers|inline|hybrid/),
    fastio_plain: '0',
  });
  expect(Number(info['fastio_attached'])).toBe(Number(info['fastio_accepted']));
  await stop(running);
});

it.each(cases)('$server with $mode answers a large pipeline in order', async ({ server, mode }) => {
  await using running = await start({ server, module: modes[mode] });
  const client = await running.client();
  const big = 'x'.repeat(300_000);

  client.send(command('SET', 'big', big));
  for (let index = 0; index < 10_000; index += 1) client.send(command('ECHO', index));
  for (let index = 0; index < 20; index += 1) client.send(command('GET', 'big'));

  expect(await client.reply()).toBe('OK');
  for (let index = 0; index < 10_000; index += 1) expect(await client.reply()).toBe(String(index));
  for (let index = 0; index < 20; index += 1) expect((await client.reply()) === big).toBe(true);
  await stop(running);
});

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
    configuration: 'dir /work',
  });
  const client = await running.client();

  expect(await client.ask('PING')).toBe('PONG');
  expect(await client.ask('MODULE', 'LIST')).toMatchObject({
    error: expect.stringMatching(/unknown command/),
  });
  expect(running.log()).not.toContain('FastIO');
});

it('serves a ring from the main thread beside one worker, unless told otherwise', async () => {
  for (const [module, mode] of [
    ['backend user workers 1', 'hybrid'],
    ['backend user workers 1 hybrid 0', 'workers'],
    ['backend user workers 2', 'workers'],
  ] as const) {
    await using running = await start({ server: 'valkey', module });
    expect(await (await running.client()).ask('PING')).toBe('PONG');

    expect(await running.info('fastio')).toMatchObject({ fastio_mode: mode });
  }
});

it('leaves connections to I/O threads where there are some, and says so', async () => {
  await using running = await start({ server: 'redis', module: modes.workers, args: ['--io-threads', '2'] });

  expect(await (await running.client()).ask('PING')).toBe('PONG');
  expect(running.log()).toContain('FastIO: serving through plain sockets: io-threads is 2');
});

it('changes options while it serves, but not the number of workers', async () => {
  await using running = await start({ server: 'valkey', module: modes.workers });
  const client = await running.client();

  expect(await client.ask('CONFIG', 'SET', 'fastio.spin-us', 50)).toBe('OK');
  expect(await client.ask('CONFIG', 'GET', 'fastio.spin-us')).toEqual(['fastio.spin-us', '50']);
  expect(await client.ask('CONFIG', 'SET', 'fastio.workers', 3)).toMatchObject({
    error: expect.stringContaining('can only be set when the server starts'),
  });
  expect(await client.ask('CONFIG', 'GET', 'fastio.workers')).toEqual(['fastio.workers', '2']);
});

it('serves a port of its own beside the plain one', async () => {
  const port = await freePort();
  await using running = await start({ server: 'redis', module: `${modes.workers} port ${port}` });
  const ours = await openClient(port);

  expect(await ours.ask('SET', 'a', 'b')).toBe('OK');
  expect(await (await running.client()).ask('GET', 'a')).toBe('b');

  expect(await running.info('fastio')).toMatchObject({ fastio_accepted: '1', fastio_attached: '1' });
});

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

it.each(redisServers)('%s keeps a replica in sync under load and through a kill -9', async (server) => {
  const port = await freePort();
  const persistent = ['--appendonly', 'yes', '--appendfsync', 'always'];
  await using replica = await start({
    server,
    module: modes.workers,
    args: ['--replicaof', `127.0.0.1 ${port}`],
  });
  {
    await using master = await start({ server, module: modes.workers, port, args: persistent });
    const client = await master.client();
    await eventually(async () => (await replica.info('replication'))['master_link_status'] === 'up');
    for (let index = 0; index < 200; index += 1)
      expect(await client.ask('SET', `k:${index}`, index)).toBe('OK');
    expect(await client.ask('WAIT', 1, 10_000)).toBe(1);
    master.kill('SIGKILL');
    await master.ended;
  }
  await using master = await start({ server, module: modes.workers, port, args: persistent });
  const [before, after] = [await replica.client(), await master.client()];
  expect(await before.ask('DBSIZE')).toBe(200);

  for (let index = 200; index < 400; index += 1)
    expect(await after.ask('SET', `k:${index}`, index)).toBe('OK');
  await eventually(async () => (await after.ask('WAIT', 1, 1_000)) === 1);

  await eventually(async () => {
    const digests = await Promise.all([before.ask('DEBUG', 'DIGEST'), after.ask('DEBUG', 'DIGEST')]);
    return digests[0] === digests[1] && (await before.ask('DBSIZE')) === (await after.ask('DBSIZE'));
  });
  expect(Number((await master.info('fastio'))['fastio_attached'])).toBeGreaterThan(1);
});

it('brings servers that need nothing of the system they run on', async () => {
  const { directory } = await layOut(await portableServers(hostArchitecture(), work), work.signal);

  for (const [server, version] of [
    ['valkey', 'v=8.1.1'],
    ['redis', 'v=8.0.2'],
  ]) {
    const { stdout } = await runOrThrow([join(directory, `bin/${server}-server`), '--version'], { env: {} });
    expect(stdout).toContain(version);
  }
});

it('passes its own tests of flows under ASan and UBSan', async () => {
  const trees = [
    { directory: join(projectRoot, 'redis'), mount: 'redis' },
    { directory: join(projectRoot, 'lib'), mount: 'lib' },
    { directory: join(projectRoot, 'kmod/include'), mount: 'kmod/include' },
  ];

  const log = await checkC({ name: 'flows', trees, makeIn: 'redis', target: 'check-asan' }, work);

  expect(log.split('\n').filter((line) => line.startsWith('not ok '))).toEqual([]);
  expect(log.split('\n').filter((line) => line.startsWith('ok ')).length).toBe(33);
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
