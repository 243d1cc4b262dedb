import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { CommandChannel, CommandStreams } from '../channel/commands.js';
import { until } from '../wait.js';
import {
  chunks,
  collect,
  isAlive,
  startTestAgent,
  type Collected,
  type TestAgent,
} from '../../test/agent.js';

const signal = AbortSignal.timeout(120_000);
let agent: TestAgent;

beforeAll(async () => {
  agent = await startTestAgent(signal);
});

afterAll(async () => {
  expect(await agent.stop()).toEqual({ status: 0, errors: '' });
});

const run = (
  channel: CommandChannel,
  argv: readonly string[],
  more: Partial<CommandStreams> = {},
): Promise<Collected> => collect(channel, argv, { signal, ...more });

it('runs a command and reports both streams and the status', async () => {
  const channel = await agent.open();

  const result = await run(channel, ['sh', '-c', 'echo out; echo err >&2; exit 7']);

  expect(result).toEqual({ end: { kind: 'status', status: 7 }, stdout: 'out\n', stderr: 'err\n' });
  channel.close();
});

it('reports the signal that ended a command', async () => {
  const channel = await agent.open();

  const { end } = await run(channel, ['sh', '-c', 'kill -TERM $$']);

  expect(end).toEqual({ kind: 'signalled', signal: 15 });
  channel.close();
});

it('says why a command could not be run', async () => {
  const channel = await agent.open();

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
  const channel = await agent.open();

  const { stdout } = await run(channel, ['sh', '-c', 'pwd; echo "$HOME $LANG $X"'], {
    cwd: '/usr',
    env: { X: 'a b', LANG: 'C' },
  });

  expect(stdout).toBe('/usr\n/root C a b\n');
  channel.close();
});

it('gives a command without input an empty one', async () => {
  const channel = await agent.open();

  const { stdout } = await run(channel, ['sh', '-c', 'cat; readlink /proc/self/fd/0']);

  expect(stdout).toBe('/dev/null\n');
  channel.close();
});

it('carries megabytes in both directions unharmed', async () => {
  const channel = await agent.open();
  const input = Buffer.alloc(5_000_003, 'fastio is not a multiple of anything. ');

  const { stdout } = await run(channel, ['cat'], { stdin: chunks(input) });

  expect(stdout.length).toBe(input.length);
  expect(stdout === input.toString()).toBe(true);
  channel.close();
});

it('ends the input of a command that stops reading it, and still gets its status', async () => {
  const channel = await agent.open();

  const { end, stdout } = await run(channel, ['head', '-c', '5'], {
    stdin: chunks(Buffer.alloc(3_000_000, 'x')),
  });

  expect(end).toEqual({ kind: 'status', status: 0 });
  expect(stdout).toBe('xxxxx');
  channel.close();
});

it('runs a thousand commands, some at once, without losing a descriptor or leaving a zombie', async () => {
  const channel = await agent.open();
  const count = async (what: string): Promise<string> => (await run(channel, ['sh', '-c', what])).stdout;
  const descriptors = `ls /proc/${agent.pid}/fd | wc -l`;
  const zombies = `cat /proc/[0-9]*/stat 2>/dev/null | awk '$3 == "Z" && $4 == ${agent.pid}' | wc -l`;
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
  const channel = await agent.open();
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
  const channel = await agent.open();
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
  const channel = await agent.open();

  const { end, stdout } = await run(channel, ['sh', '-c', 'sleep 30 & echo $!']);

  expect(end).toEqual({ kind: 'status', status: 0 });
  process.kill(Number(stdout), 'SIGKILL');
  channel.close();
});

it('kills the whole group of a command whose caller gives up', async () => {
  const channel = await agent.open();
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
      (await run(channel, ['kill', '-0', started.trim()])).end.kind !== 'notRun' && !isAlive(Number(started)),
    { everyMs: 20, signal },
  );
  channel.close();
});
