import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { openChannel, type CommandChannel } from '../channel/commands.js';
import { encodeExec, encodeFrame, encodeHello, frameType } from '../channel/frame.js';
import { greetAgent } from '../channel/handshake.js';
import { until } from '../wait.js';
import { collect, isAlive, startTestAgent, type Collected, type TestAgent } from '../../test/agent.js';

const signal = AbortSignal.timeout(120_000);
let agent: TestAgent;

beforeAll(async () => {
  agent = await startTestAgent(signal);
});

afterAll(async () => {
  expect(await agent.stop()).toEqual({ status: 0, errors: '' });
});

const run = (channel: CommandChannel, argv: readonly string[]): Promise<Collected> =>
  collect(channel, argv, { signal });

it('kills the commands of a host that vanishes, and serves the next one', async () => {
  const channel = await agent.open();
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
  const next = await agent.open();

  await until(() => Promise.resolve(!isAlive(pid)), { everyMs: 20, signal });
  expect((await run(next, ['echo', 'hello'])).stdout).toBe('hello\n');
  next.close();
});

it('drops what an earlier connection left in the pipe, in both directions', async () => {
  const socket = await agent.connectRaw();
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
  const socket = await agent.connectRaw();
  await greetAgent(socket, signal);
  const refused = openChannel(socket, { closedReason: () => new Error('closed') });

  socket.write(bytes);

  await new Promise((resolve) => {
    refused.closed.addEventListener('abort', resolve);
  });
  expect(refused.closed.reason).toMatchObject({ message: expect.stringContaining('refused') });
  const next = await agent.open();
  expect((await run(next, ['echo', 'on'])).stdout).toBe('on\n');
  next.close();
});
