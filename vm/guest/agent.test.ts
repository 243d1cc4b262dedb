import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openChannel, type CommandChannel, type CommandEnd } from '../channel/commands.js';
import { encodeExec, encodeFrame, encodeHello, frameType } from '../channel/frame.js';
import { greetAgent } from '../channel/handshake.js';
import { until } from '../wait.js';

const here = dirname(fileURLToPath(import.meta.url));
const signal = AbortSignal.timeout(120_000);
let directory: string;
let agent: ChildProcess;
let agentErrors = '';
let socketPath: string;

/** The agent is built for this machine with every check the compiler has, and serves a Unix socket. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fastio-agent-'));
  const program = join(directory, 'agent');
  const flags = [
    '-O1',
    '-g',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
    '-Wall',
    '-Wextra',
  ];
  const sources = ['agent.c', 'command.c'].map((name) => join(here, name));
  await promisify(execFile)('cc', [...flags, '-Werror', '-o', program, ...sources]);
  socketPath = join(directory, 'sock');
  agent = spawn(program, ['--socket', socketPath], { stdio: ['ignore', 'ignore', 'pipe'] });
  agent.stderr?.on('data', (chunk: Buffer) => (agentErrors += chunk.toString()));
  await until(
    async () =>
      (await connectRaw().then(
        (socket) => socket.destroy(),
        () => undefined,
      )) !== undefined,
    {
      everyMs: 10,
      signal,
    },
  );
});

afterAll(async () => {
  const exited = new Promise<number | null>((resolve) => agent.once('exit', resolve));
  const socket = await connectRaw();
  await greetAgent(socket, signal);
  socket.write(encodeFrame(frameType.powerOff, 1));
  // ASan reports leaks and errors when the agent ends; either would show here.
  const status = await exited;
  await rm(directory, { recursive: true });
  expect(agentErrors).toBe('');
  expect(status).toBe(0);
});

function connectRaw(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.once('connect', () => resolve(socket.on('error', () => undefined)));
    socket.once('error', reject);
  });
}

async function open(): Promise<CommandChannel> {
  const socket = await connectRaw();
  await greetAgent(socket, signal);
  return openChannel(socket, { closedReason: () => new Error('closed') });
}

interface Collected {
  readonly end: CommandEnd;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(
  channel: CommandChannel,
  argv: readonly string[],
  more: {
    stdin?: AsyncIterable<Uint8Array>;
    env?: Record<string, string>;
    cwd?: string;
    signal?: AbortSignal;
  } = {},
): Promise<Collected> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const end = await channel.run({
    argv,
    signal,
    ...more,
    onStdout: (chunk) => void stdout.push(Buffer.from(chunk)),
    onStderr: (chunk) => void stderr.push(Buffer.from(chunk)),
  });
  return { end, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}

async function* chunks(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield await Promise.resolve(part);
}

it('runs a command and reports both streams and the status', async () => {
  const channel = await open();

  const result = await run(channel, ['sh', '-c', 'echo out; echo err >&2; exit 7']);

  expect(result).toEqual({ end: { kind: 'status', status: 7 }, stdout: 'out\n', stderr: 'err\n' });
  channel.close();
});

it('reports the signal that ended a command', async () => {
  const channel = await open();

  const { end } = await run(channel, ['sh', '-c', 'kill -TERM $$']);

  expect(end).toEqual({ kind: 'signalled', signal: 15 });
  channel.close();
});

it('says why a command could not be run', async () => {
  const channel = await open();

  const missing = await run(channel, ['no-such-program']);
  const forbidden = await run(channel, ['/etc/passwd']);
  const nowhere = await run(channel, ['true'], { cwd: '/no/such/place' });

  expect(missing.end).toEqual({
    kind: 'notRun',
    errno: 2,
    text: 'no-such-program: No such file or directory',
  });
  expect(forbidden.end).toEqual({ kind: 'notRun', errno: 13, text: '/etc/passwd: Permission denied' });
  expect(nowhere.end).toEqual({
    kind: 'notRun',
    errno: 2,
    text: '/no/such/place: No such file or directory',
  });
  channel.close();
});

it('passes directory and environment, and keeps its own defaults below the caller’s', async () => {
  const channel = await open();

  const { stdout } = await run(channel, ['sh', '-c', 'pwd; echo "$HOME $LANG $X"'], {
    cwd: '/usr',
    env: { X: 'a b', LANG: 'C' },
  });

  expect(stdout).toBe('/usr\n/root C a b\n');
  channel.close();
});

it('gives a command without input an empty one', async () => {
  const channel = await open();

  const { stdout } = await run(channel, ['sh', '-c', 'cat; readlink /proc/self/fd/0']);

  expect(stdout).toBe('/dev/null\n');
  channel.close();
});

it('carries megabytes in both directions unharmed', async () => {
  const channel = await open();
  const input = Buffer.alloc(5_000_003, 'fastio is not a multiple of anything. ');

  const { stdout } = await run(channel, ['cat'], { stdin: chunks(input) });

  expect(stdout.length).toBe(input.length);
  expect(stdout === input.toString()).toBe(true);
  channel.close();
});

it('ends the input of a command that stops reading it, and still gets its status', async () => {
  const channel = await open();

  const { end, stdout } = await run(channel, ['head', '-c', '5'], {
    stdin: chunks(Buffer.alloc(3_000_000, 'x')),
  });

  expect(end).toEqual({ kind: 'status', status: 0 });
  expect(stdout).toBe('xxxxx');
  channel.close();
});

it('runs a thousand commands, some at once, without losing a descriptor or leaving a zombie', async () => {
  const channel = await open();
  const count = async (what: string): Promise<string> => (await run(channel, ['sh', '-c', what])).stdout;
  const descriptors = `ls /proc/${agent.pid ?? 0}/fd | wc -l`;
  const zombies = `cat /proc/[0-9]*/stat 2>/dev/null | awk '$3 == "Z" && $4 == ${agent.pid ?? 0}' | wc -l`;
  const before = await count(descriptors);

  for (let round = 0; round < 40; round++) {
    const results = await Promise.all(
      Array.from({ length: 25 }, (_, i) => run(channel, ['sh', '-c', `echo ${i}; exit ${i}`])),
    );
    results.forEach(({ end, stdout }, i) => {
      expect(end).toEqual({ kind: 'status', status: i });
      expect(stdout).toBe(`${i}\n`);
    });
  }

  expect(await count(descriptors)).toBe(before);
  expect(await count(zombies)).toBe('0\n');
  channel.close();
});

it('refuses the 257th command at a time and runs it once there is room', async () => {
  const channel = await open();
  const stop = new AbortController();
  const sleeping = Array.from({ length: 256 }, () => run(channel, ['sleep', '60'], { signal: stop.signal }));
  const settled = Promise.allSettled(sleeping);

  const refused = await run(channel, ['true']);
  stop.abort(new Error('enough'));
  const outcomes = await settled;

  expect(refused.end).toMatchObject({ kind: 'notRun', errno: 11 });
  expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true);
  await until(async () => (await run(channel, ['true'])).end.kind === 'status', { everyMs: 20, signal });
  channel.close();
});

it('does not let a command whose reader has stalled hold up another', async () => {
  const channel = await open();
  let release = (): void => undefined;
  const stalled = new Promise<void>((resolve) => (release = resolve));
  let received = 0;
  const slow = channel.run({
    argv: ['head', '-c', '20000000', '/dev/zero'],
    signal,
    onStdout: (chunk) => {
      received += chunk.length;
      return stalled;
    },
    onStderr: () => undefined,
  });

  const { stdout } = await run(channel, ['echo', 'quick']);
  const underWay = received;
  release();
  const end = await slow;

  expect(stdout).toBe('quick\n');
  expect(underWay).toBeLessThanOrEqual(1024 * 1024);
  expect(received).toBe(20_000_000);
  expect(end).toEqual({ kind: 'status', status: 0 });
  channel.close();
});

it('reports the end of a command that left a daemon holding its output open', async () => {
  const channel = await open();

  const { end, stdout } = await run(channel, ['sh', '-c', 'sleep 30 & echo $!']);

  expect(end).toEqual({ kind: 'status', status: 0 });
  process.kill(Number(stdout), 'SIGKILL');
  channel.close();
});

it('kills the whole group of a command whose caller gives up', async () => {
  const channel = await open();
  const stop = new AbortController();
  let started = '';

  const running = channel.run({
    argv: ['sh', '-c', 'sleep 61.25 & echo $!; wait'],
    signal: stop.signal,
    onStdout: (chunk) => {
      started = chunk.toString();
      stop.abort(new Error('given up'));
      return undefined;
    },
    onStderr: () => undefined,
  });

  await expect(running).rejects.toThrow('given up');
  await until(
    async () =>
      (await run(channel, ['kill', '-0', started.trim()])).end.kind !== 'notRun' &&
      !(await isAlive(Number(started))),
    { everyMs: 20, signal },
  );
  channel.close();
});

async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
    return await Promise.resolve(true);
  } catch {
    return false;
  }
}

it('kills the commands of a host that vanishes, and serves the next one', async () => {
  const channel = await open();
  let pid = 0;
  const started = new Promise<void>((resolve) => {
    channel
      .run({
        argv: ['sh', '-c', 'echo $$; exec sleep 62'],
        signal,
        onStdout: (chunk) => {
          pid = Number(chunk.toString());
          resolve();
          return undefined;
        },
        onStderr: () => undefined,
      })
      .catch(() => undefined);
  });
  await started;

  channel.close();
  const next = await open();

  await until(async () => !(await isAlive(pid)), { everyMs: 20, signal });
  expect((await run(next, ['echo', 'hello'])).stdout).toBe('hello\n');
  next.close();
});

it('drops what an earlier connection left in the pipe, in both directions', async () => {
  const socket = await connectRaw();
  const half = encodeExec(5, {
    argv: ['echo', 'stale'],
    env: {},
    cwd: '',
    hasStdin: false,
    creditBytes: 100,
  });

  // An answer to someone else's HELLO, and half a frame, precede ours.
  socket.write(encodeHello(Buffer.alloc(16, 7)));
  socket.write(Buffer.concat([Buffer.from('noise'), half.subarray(0, 20)]));
  const welcome = await greetAgent(socket, signal);
  const channel = openChannel(socket, { closedReason: () => new Error('closed') });

  expect(welcome.machine).toBe(process.arch === 'arm64' ? 'aarch64' : 'x86_64');
  expect((await run(channel, ['echo', 'fresh'])).stdout).toBe('fresh\n');
  channel.close();
});

it.each([
  ['a frame of unknown type', encodeFrame(99, 1)],
  ['a frame that is too long', Buffer.from([0xff, 0xff, 0xff, 0x7f, 2, 0, 0, 0, 0])],
  ['EXEC cut short', encodeFrame(frameType.exec, 1, Buffer.alloc(7))],
  ['EXEC without arguments', encodeFrame(frameType.exec, 1, Buffer.alloc(16))],
  [
    'EXEC whose strings do not end',
    encodeFrame(frameType.exec, 1, Buffer.from([...Buffer.alloc(12), 1, 0, 0, 0, 65])),
  ],
  ['CREDIT of no stream', encodeFrame(frameType.credit, 1, Buffer.alloc(5))],
  ['SIGNAL 65', encodeFrame(frameType.signal, 1, Buffer.from([65, 0, 0, 0]))],
  ['RESUMED without a seed', encodeFrame(frameType.resumed, 1, Buffer.alloc(12))],
])('refuses %s and starts over', async (_, bytes) => {
  const socket = await connectRaw();
  await greetAgent(socket, signal);
  const refused = openChannel(socket, { closedReason: () => new Error('closed') });

  socket.write(bytes);

  await new Promise((resolve) => refused.closed.addEventListener('abort', resolve));
  expect(refused.closed.reason).toMatchObject({ message: expect.stringContaining('refused') });
  const next = await open();
  expect((await run(next, ['echo', 'on'])).stdout).toBe('on\n');
  next.close();
});
