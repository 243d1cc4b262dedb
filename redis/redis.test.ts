import { expect, it, jest } from '@jest/globals';
import { join } from 'node:path';
import { command, openClient } from '../test/redis/client.js';
import { cases, modes, start, stop, work } from '../test/redis/sanitized.js';
import { freePort } from '../test/redis/server.js';
import { layOut } from '../toolchain/artifacts.js';
import { checkC } from '../toolchain/check.js';
import { portableServers } from '../toolchain/portable-programs.js';
import { runOrThrow } from '../vm/exec.js';
import { hostArchitecture } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';

jest.setTimeout(600_000);

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
