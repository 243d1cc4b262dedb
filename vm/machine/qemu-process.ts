import { spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { FastioError } from '../errors.js';

export interface QemuExit {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A QEMU that runs, or did. */
export interface QemuProcess {
  readonly pid: number;
  readonly agent: Socket;
  readonly qmp: Socket;
  readonly console: Socket;
  readonly exited: Promise<QemuExit>;
  /** What it wrote to stderr, the last 4 KiB. */
  messages(): string;
  /** Ends it by force, by its pid; `exited` then settles. */
  kill(): void;
}

const keptMessageBytes = 4_096;

/**
 * Starts QEMU with a socket pair for each descriptor that command-line.ts names; no path, no port, no race.
 * @param argv the whole command, wrappers included.
 * @param log file that gets QEMU's own messages.
 * @param onMessage called after each piece of them.
 * @throws FastioError QEMU_START when the program cannot be started at all.
 */
export async function startQemu(
  argv: readonly string[],
  log: string,
  onMessage: () => void,
): Promise<QemuProcess> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'] });
  let messages = '';
  const note = (chunk: Buffer): void => {
    messages = (messages + chunk.toString()).slice(-keptMessageBytes);
    appendFileSync(log, chunk);
    onMessage();
  };
  child.stdout?.on('data', note);
  child.stderr?.on('data', note);
  // 'close' comes after the last message; a program that left children holding the pipes must not delay us.
  const exited = new Promise<QemuExit>((resolve) => {
    child.once('exit', (status, signal) => setTimeout(resolve, 50, { status, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) => {
      reject(
        new FastioError('QEMU_START', `${program} cannot be run: ${error.message}`, 'Run `fastio doctor`.', {
          cause: error,
        }),
      );
    });
  });
  const [agent, qmp, console] = [3, 4, 5].map((fd) => child.stdio[fd] as Socket);
  if (agent === undefined || qmp === undefined || console === undefined || child.pid === undefined) {
    throw new Error('a spawned child has its descriptors and its pid');
  }
  // A reset only says that QEMU ended, which `exited` says better.
  for (const socket of [agent, qmp, console]) socket.on('error', () => undefined);
  return {
    pid: child.pid,
    agent,
    qmp,
    console,
    exited,
    messages: () => messages,
    kill: () => void child.kill('SIGKILL'),
  };
}
