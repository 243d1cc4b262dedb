import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  openChannel,
  type CommandChannel,
  type CommandEnd,
  type CommandStreams,
} from '../vm/channel/commands.js';
import { encodeFrame, frameType } from '../vm/channel/frame.js';
import { greetAgent } from '../vm/channel/handshake.js';
import { projectRoot } from '../vm/paths.js';
import { until } from '../vm/wait.js';

/** The guest's agent, built for this machine with every check the compiler has, serving a Unix socket. */
export interface TestAgent {
  readonly pid: number;
  /** A connection without a greeting. */
  connectRaw(): Promise<Socket>;
  /** A connection that has been greeted, ready for commands. */
  open(): Promise<CommandChannel>;
  /** Asks it to end, and returns its status and whatever the sanitizers said: leaks show only now. */
  stop(): Promise<{ readonly status: number | null; readonly errors: string }>;
}

export interface Collected {
  readonly end: CommandEnd;
  readonly stdout: string;
  readonly stderr: string;
}

const flags = [
  '-O1',
  '-g',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-Wall',
  '-Wextra',
  '-Werror',
];

export async function startTestAgent(signal: AbortSignal): Promise<TestAgent> {
  const directory = await mkdtemp(join(tmpdir(), 'fastio-agent-'));
  const program = join(directory, 'agent');
  const sources = ['agent.c', 'command.c'].map((name) => join(projectRoot, 'vm/guest', name));
  await promisify(execFile)('cc', [...flags, '-o', program, ...sources]);
  const path = join(directory, 'sock');
  const agent = spawn(program, ['--socket', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  agent.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const exited = new Promise<number | null>((resolve) => agent.once('exit', resolve));

  const connectRaw = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        resolve(socket.on('error', () => undefined));
      });
    });
  const answers = async (): Promise<boolean> => {
    try {
      (await connectRaw()).destroy();
      return true;
    } catch {
      return false;
    }
  };
  await until(answers, { everyMs: 10, signal });
  return {
    pid: agent.pid ?? 0,
    connectRaw,
    async open() {
      const socket = await connectRaw();
      await greetAgent(socket, signal);
      return openChannel(socket, { closedReason: () => new Error('closed') });
    },
    async stop() {
      const socket = await connectRaw();
      await greetAgent(socket, signal);
      socket.write(encodeFrame(frameType.powerOff, 1));
      const status = await exited;
      await rm(directory, { recursive: true });
      return { status, errors };
    },
  };
}

/** Runs a command and keeps what it prints. */
export async function collect(
  channel: CommandChannel,
  argv: readonly string[],
  more: Partial<CommandStreams> & { readonly signal: AbortSignal },
): Promise<Collected> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const end = await channel.run({
    argv,
    onStdout: (chunk) => void stdout.push(chunk),
    onStderr: (chunk) => void stderr.push(chunk),
    ...more,
  });
  return { end, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}

export async function* chunks(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield await Promise.resolve(part);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
