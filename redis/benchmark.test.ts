import { beforeAll, expect, it, jest } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { parseLoadOutput } from '../suites/run/load-output.js';
import { freePort } from '../test/redis/server.js';
import { echoPrograms, layOut } from '../toolchain/artifacts.js';
import { portableServers } from '../toolchain/portable-programs.js';
import { redisServers } from '../toolchain/redis.js';
import { run, type RunResult } from '../vm/exec.js';
import { hostArchitecture } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';

// Debian's servers and their benchmark tools on this host, as a guest gets them.
jest.setTimeout(300_000);

const work = { report: silent, signal: new AbortController().signal };
let programs: string;

beforeAll(async () => {
  const arch = hostArchitecture();
  const placed = [...(await echoPrograms(projectRoot, arch, work)), ...(await portableServers(arch, work))];
  programs = join((await layOut(placed, work.signal)).directory, 'bin');
});

/** Runs a program that listens for as long as `use` takes, from when its output says that it serves. */
async function withServer<T>(
  name: string,
  args: readonly string[],
  use: (pid: number) => Promise<T>,
): Promise<T> {
  const server = spawn(join(programs, name), args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(server, 'exit');
  try {
    let said = '';
    for await (const chunk of server.stdout.setEncoding('utf8')) {
      said += String(chunk);
      if (/Ready to accept connections tcp|^READY /m.test(said)) break;
    }
    return await use(server.pid ?? 0);
  } finally {
    server.kill('SIGKILL');
    await ended;
  }
}

const loadBy = (...args: readonly string[]): Promise<RunResult> => run([join(programs, 'load_by'), ...args]);
const address = (port: number): string => `127.0.0.1:${port}`;

it.each(redisServers)('measures %s under its own benchmark tool', async (name) => {
  const port = await freePort();
  await withServer(`${name}-server`, ['--port', String(port), '--save', ''], async (pid) => {
    const tool = [join(programs, `${name}-benchmark`), '-p', String(port), '-n', '1000000000', '-q'];
    const window = [
      '--warmup',
      '50ms',
      '--duration',
      '500ms',
      '--intervals',
      '5',
      '--account-pid',
      String(pid),
    ];
    const { status, stdout, stderr } = await loadBy(
      ...['--address', address(port), ...window, '--', ...tool],
      ...['-c', '10', '-t', 'ping_mbulk', '--threads', '2'],
    );

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const found = parseLoadOutput('fastio-load', stdout, { what: 'the window', serverCpus: [] });
    // By the server's clock, which stamps a command when it begins.
    expect(found.durationNs).toBeGreaterThan(400e6);
    expect(found.requests).toBeGreaterThan(100);
    expect(found.intervals.reduce((sum, { requests }) => sum + requests, 0)).toBe(found.requests);
    expect(found.serverCpuNs).toBeGreaterThan(0);
    expect(found.generatorBusy).toBeGreaterThan(0);
    expect(found.latency.buckets).toEqual([]);
  });
});

it('says what became of a tool that does not load the server', async () => {
  const port = await freePort();
  await withServer('redis-server', ['--port', String(port), '--save', ''], async () => {
    const refused = (...tool: readonly string[]): Promise<RunResult> =>
      loadBy('--address', address(port), '--timeout', '300ms', '--duration', '1s', '--', ...tool);
    const cases = [
      [await refused('true'), 'the tool ended with status 0 before the window was over'],
      [
        await refused('sh', '-c', 'kill -TERM $$'),
        'the tool was ended by signal 15 before the window was over',
      ],
      [await refused('sleep', '60'), 'the tool made no requests within 0.3 s'],
    ] as const;

    for (const [{ status, stderr, stdout }, message] of cases) {
      expect({ status, stderr, stdout }).toEqual({ status: 1, stderr: `load_by: ${message}\n`, stdout: '' });
    }
  });
});

it('wants a server that answers INFO, and a tool', async () => {
  const port = await freePort();
  await withServer('epoll', ['--port', String(port)], async () => {
    const echoed = await loadBy('--address', address(port), '--', 'sleep', '60');
    expect(echoed.status).toBe(1);
    expect(echoed.stderr).toContain('expected a reply to INFO');
  });
  const gone = await loadBy('--address', address(port), '--', 'sleep', '60');
  expect(gone.status).toBe(1);
  expect(gone.stderr).toContain('Connection refused');
  const without = await loadBy('--address', address(port));
  expect(without).toMatchObject({
    status: 2,
    stderr: 'load_by: found no tool, expected -- and the command of one\n',
  });
});
