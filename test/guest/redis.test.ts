import { beforeAll, expect, it } from '@jest/globals';
import { echoPrograms, layOut } from '../../toolchain/artifacts.js';
import { redisModules, redisServers } from '../../toolchain/redis.js';
import { buildModule } from '../../toolchain/targets.js';
import { loadModule } from '../../toolchain/load.js';
import type { Vm } from '../../vm/vm.js';
import { projectRoot } from '../../vm/paths.js';
import { defaultSpec, expectQuietKernel, noSignal, report, sharedVm } from './guest.js';

const { arch, kernel } = defaultSpec;
const options = { report, signal: noSignal };
const place = '/opt/redis-test';
let vm: Vm;

beforeAll(async () => {
  vm = await sharedVm();
  const module = await buildModule(
    { directory: `${projectRoot}/kmod`, name: 'fastio', arch, kernel },
    options,
  );
  await loadModule(vm, module.path, { ...options, kernel });
  const files = [
    ...(await redisModules(projectRoot, arch, options, 'release', ['vanish'])),
    ...(await echoPrograms(projectRoot, arch, options)),
  ];
  const { directory } = await layOut(files, noSignal);
  await vm.push(directory, place, { signal: noSignal });
}, 900_000);

interface Extras {
  readonly args?: string;
  /** Preloaded into the server. */
  readonly library?: string;
}

/** Starts a server, runs `steps` of shell against it, which may `start` it anew, and ends it in order. */
async function withServer(
  server: string,
  module: string,
  steps: string,
  { args = '', library }: Extras = {},
): Promise<string> {
  const preload = library === undefined ? '' : `LD_PRELOAD=${place}/modules/${library}.so `;
  const script = [
    'set -eu',
    'ulimit -n 30000',
    `cd ${place}`,
    'rm -rf data',
    'mkdir data',
    'start() {',
    // The server before may have left one, and the next empties it only once it runs.
    `  : >${server}.log`,
    `  ${preload}${server}-server --port 7700 --save '' --dir data ${args} ` +
      `--loadmodule ${place}/modules/fastio-${server}.so ${module} >${server}.log 2>&1 &`,
    '  pid=$!',
    `  until grep -q 'FastIO: .*back end' ${server}.log; do kill -0 $pid; sleep 0.1; done`,
    '}',
    "trap 'kill -9 $pid 2>/dev/null; tail -n 20 *.log' EXIT",
    'start',
    `cli() { ${server}-cli -p 7700 "$@"; }`,
    steps,
    'cli shutdown nosave',
    'wait $pid',
    'trap - EXIT',
    `cat ${server}.log`,
  ].join('\n');
  const result = await vm.exec(['sh', '-c', script], { signal: noSignal, timeoutMs: 600_000 });
  // Of a failure the trap has printed the end of the logs.
  const { status, stderr, stdout } = result;
  expect({ status, stderr, log: status === 0 ? '' : stdout }).toEqual({ status: 0, stderr: '', log: '' });
  return stdout;
}

const modes = ['workers 2 idle-us 100', 'workers 0', 'workers 1 hybrid 4 idle-us 100'];
const cases = redisServers.flatMap((server) => modes.map((module) => ({ server, module })));

it.each(cases)(
  '$server answers through the kernel module with $module',
  async ({ server, module }) => {
    const { mark } = await vm.kernelTrouble();
    const load = (protocol: string, connections: number, bytes: number): string =>
      `bin/load --address 127.0.0.1:7700 --protocol ${protocol} --connections ${connections} --message-bytes ${bytes} ` +
      '--requests 2000 --warmup 0s --timeout 60s --json - | grep -o \'"ok":[a-z]*\'';

    const output = await withServer(
      server,
      module,
      [
        load('mixed', 20, 64),
        load('get', 5, 100_000),
        load('incr', 20, 1),
        'cli bgsave',
        load('set', 20, 5_000),
        'cli info fastio',
      ].join('\n'),
    );

    expect(output.match(/"ok":true/g)).toHaveLength(4);
    expect(output).toContain('fastio_backend:kernel');
    expect(output).toMatch(/FastIO: (\d+) accepted, \1 on rings, 0 detached, 0 plain, 0 turned away/);
    await expectQuietKernel(vm, mark);
  },
  900_000,
);

it.each([
  { server: 'valkey', module: 'workers 2 idle-us 100' },
  { server: 'redis', module: 'workers 0' },
  { server: 'valkey', module: 'workers 1 hybrid 4 idle-us 100' },
])(
  '$server with $module loses the device while it serves, and no reply',
  async ({ server, module }) => {
    const { mark } = await vm.kernelTrouble();

    const output = await withServer(
      server,
      module,
      [
        'bin/load --address 127.0.0.1:7700 --protocol incr --connections 20 --message-bytes 1 --requests 8000 ' +
          '--warmup 0s --timeout 120s --json load.json &',
        'load=$!',
        'asked() { cli info stats | sed -n "s/total_commands_processed:\\([0-9]*\\).*/\\1/p"; }',
        'until [ "$(asked)" -gt 2000 ]; do kill -0 $load; done',
        'kill -WINCH $pid',
        'until cli info fastio | grep mode:abandoned; do kill -0 $load; done',
        'kill -0 $load && echo "the load went on"',
        'wait $load',
        'grep -o \'"ok":[a-z]*\' load.json',
        'test -z "$(ls -l /proc/$pid/fd | grep /dev/fastio)"',
      ].join('\n'),
      { library: 'vanish' },
    );

    expect(output).toContain('the load went on');
    expect(output).toContain('"ok":true');
    expect(output.match(/FastIO: lost/g)).toHaveLength(1);
    await expectQuietKernel(vm, mark);
  },
  900_000,
);

it.each(redisServers)(
  '%s has in its log what it answered before a kill -9',
  async (server) => {
    const { mark } = await vm.kernelTrouble();
    const load = (protocol: string): string =>
      `bin/load --address 127.0.0.1:7700 --protocol ${protocol} --connections 20 --message-bytes 64 ` +
      '--requests 2000 --warmup 0s --timeout 60s --json - | grep -o \'"ok":[a-z]*\'';

    const output = await withServer(
      server,
      'workers 2 idle-us 100',
      [
        load('set'),
        'cli bgrewriteaof',
        load('incr'),
        'before=$(cli debug digest)',
        'kill -9 $pid',
        'wait $pid 2>/dev/null || true',
        'start',
        'until cli ping 2>/dev/null | grep PONG; do kill -0 $pid; done',
        'echo "before $before after $(cli debug digest)"',
        load('mixed'),
      ].join('\n'),
      { args: '--appendonly yes --appendfsync always --enable-debug-command yes' },
    );

    expect(output.match(/"ok":true/g)).toHaveLength(3);
    expect(output).toMatch(/before ([0-9a-f]{40}) after \1/);
    await expectQuietKernel(vm, mark);
  },
  900_000,
);

it.each(redisServers)(
  '%s keeps a replica in sync under load, through a kill -9 of the master',
  async (server) => {
    const { mark } = await vm.kernelTrouble();
    const workers = 'workers 1 idle-us 100';
    const load = (protocol: string, requests: number): string =>
      `bin/load --address 127.0.0.1:7700 --protocol ${protocol} --connections 20 --message-bytes 64 ` +
      `--requests ${requests} --warmup 0s --timeout 120s --json -`;

    const output = await withServer(
      server,
      workers,
      [
        'mkdir data/replica',
        `${server}-server --port 7701 --save '' --dir data/replica --replicaof 127.0.0.1 7700 --enable-debug-command yes ` +
          `--loadmodule ${place}/modules/fastio-${server}.so ${workers} >replica.log 2>&1 &`,
        'replica=$!',
        "trap 'kill -9 $pid $replica 2>/dev/null; tail -n 20 *.log' EXIT",
        `ask() { ${server}-cli -p 7701 "$@"; }`,
        'follows() { until ask info replication 2>&1 | grep -q master_link_status:up; do kill -0 $replica; sleep 0.1; done; }',
        'same() {',
        '  until [ "$(cli debug digest)" = "$(ask debug digest)" ]; do kill -0 $pid; sleep 0.1; done',
        '  echo "master $(cli debug digest) replica $(ask debug digest)"',
        '}',
        'follows',
        `${load('mixed', 1_000_000)} >cut.json 2>&1 &`,
        'load=$!',
        'asked() { ask info stats | sed -n "s/total_commands_processed:\\([0-9]*\\).*/\\1/p"; }',
        'until [ "$(asked)" -gt 300 ]; do kill -0 $load; sleep 0.2; done',
        'kill -9 $pid',
        '! wait $load',
        'wait $pid 2>/dev/null || true',
        'start',
        'until cli ping 2>/dev/null | grep PONG; do kill -0 $pid; done',
        'follows',
        'same',
        `${load('set', 2_000)} | grep -o '"ok":[a-z]*'`,
        'same',
        'cli info fastio',
        'ask info fastio',
        'kill -9 $pid',
        'ask replicaof no one',
        'ask set promoted yes',
        'ask shutdown nosave',
        'wait $replica',
        'cat replica.log',
        'start',
      ].join('\n'),
      {
        args: '--appendonly yes --appendfsync always --enable-debug-command yes --repl-diskless-sync-delay 0',
      },
    );

    expect(output.match(/^master ([0-9a-f]{40}) replica \1$/gm)).toHaveLength(2);
    expect(output).not.toMatch(/^master 0{40}/m);
    expect(output.match(/"ok":true/g)).toHaveLength(1);
    expect(output.match(/fastio_backend:kernel/g)).toHaveLength(2);
    expect(
      output.match(/FastIO: (\d+) accepted, \1 on rings, 0 detached, 0 plain, 0 turned away/g),
    ).toHaveLength(2);
    await expectQuietKernel(vm, mark);
  },
  900_000,
);

it('serves 10,000 connections through the kernel module', async () => {
  const { mark } = await vm.kernelTrouble();

  const output = await withServer(
    'valkey',
    'workers 2 idle-us 100',
    [
      'ulimit -n 30000',
      'bin/load --address 127.0.0.1:7700 --protocol ping --connections 10000 --message-bytes 16 --requests 20000 ' +
        '--warmup 0s --timeout 120s --json - | grep -o \'"ok":[a-z]*\'',
      'cli info fastio',
    ].join('\n'),
    { args: '--maxclients 10100' },
  );

  expect(output).toContain('"ok":true');
  expect(output).toMatch(/FastIO: (\d+) accepted, \1 on rings, 0 detached, 0 plain, 0 turned away/);
  await expectQuietKernel(vm, mark);
}, 1_800_000);
