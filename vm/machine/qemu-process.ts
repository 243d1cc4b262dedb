import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { FastioError } from '../errors.js';
import { openBoundedLog } from './bounded-log.js';

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
/** What QEMU wrote just before it ended takes a moment to arrive. */
const lastWordsMs = 50;

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
  const file = openBoundedLog(log);
  let messages = '';
  const note = (chunk: Buffer): void => {
    messages = (messages + chunk.toString()).slice(-keptMessageBytes);
    file.write(chunk);
    onMessage();
  };
  child.stdout?.on('data', note);
  child.stderr?.on('data', note);
  const exited = new Promise<QemuExit>((resolve) => {
    child.once('exit', (status, signal) => {
      setTimeout(() => {
        void file.end().then(() => {
          resolve({ status, signal });
        });
      }, lastWordsMs);
    });
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
