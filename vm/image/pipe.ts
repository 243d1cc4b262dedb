import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { errnoOf, FastioError } from '../errors.js';

/** Of stderr, this much is kept for the error message. */
const keptStderrChars = 4096;

/** A program between two streams. */
export interface Piped {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Settles when the program has ended; rejects when it failed. */
  readonly ended: Promise<void>;
}

/** Starts a program whose input and output are streams of bytes too large to hold. */
export function pipeThrough(
  argv: readonly string[],
  options: { readonly signal: AbortSignal; readonly env?: NodeJS.ProcessEnv },
): Piped {
  const [program = '', ...args] = argv;
  const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: options.env ?? process.env,
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-keptStderrChars);
  });
  // EPIPE of a program that ended early: how it ended says more.
  child.stdin.on('error', () => undefined);
  const stop = (): void => {
    child.kill('SIGKILL');
  };
  options.signal.addEventListener('abort', stop, { once: true });
  const ended = new Promise<void>((resolve, reject) => {
    child.on('error', (error) => {
      reject(explainStart(program, error));
    });
    child.on('close', (status, signalName) => {
      options.signal.removeEventListener('abort', stop);
      if (options.signal.aborted) reject(options.signal.reason as Error);
      else if (status === 0) resolve();
      else reject(explainEnd(argv, status ?? signalName ?? 'unknown', stderr));
    });
  });
  // Whoever waits for it hears of it; until then it must not count as unhandled.
  ended.catch(() => undefined);
  if (options.signal.aborted) stop();
  return { stdin: child.stdin, stdout: child.stdout, ended };
}

function explainStart(program: string, error: Error): Error {
  if (errnoOf(error) !== 'ENOENT') return error;
  return new FastioError(
    'TOOL_MISSING',
    `${program}: no such program`,
    `Install the package ${program === 'xz' ? 'xz-utils' : program}, then try again.`,
    {
      cause: error,
    },
  );
}

function explainEnd(argv: readonly string[], status: number | string, stderr: string): FastioError {
  const detail = stderr.trimEnd().split('\n').slice(-20);
  // A program of a tools root stands behind its loader (tools.ts).
  const name = (argv[1] === '--library-path' ? argv[3] : argv[0]) ?? '';
  return new FastioError('HOST_UNSUPPORTED', `${name} ended with ${status}`, 'Read its last lines below.', {
    detail,
  });
}
