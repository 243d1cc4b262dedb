import { $ } from 'zx';
import { FastioError } from './errors.js';

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  /** The whole environment of the program; without it, this process's own. */
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Uint8Array;
  /** Called for each line of stdout and stderr as it comes. */
  readonly onLine?: (line: string) => void;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a host program to its end. A non-zero status is a result. Aborting the signal ends the program and its
 * children, and rejects with the signal's own reason (zx alone would report a plain SIGTERM).
 * @throws FastioError TOOL_MISSING when there is no such program.
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  options.signal?.throwIfAborted();
  const child = $({
    quiet: true,
    nothrow: true,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.input === undefined ? {} : { input: Buffer.from(options.input) }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  })`${argv}`;
  if (options.onLine !== undefined) {
    forwardLines(child.stdout, options.onLine);
    forwardLines(child.stderr, options.onLine);
  }
  const output = await child;
  options.signal?.throwIfAborted();
  if (output.exitCode === 127) {
    throw new FastioError(
      'TOOL_MISSING',
      `${argv[0] ?? ''}: no such program`,
      'Run `fastio doctor` to see what is missing.',
    );
  }
  return { status: output.exitCode ?? 255, stdout: output.stdout, stderr: output.stderr };
}

/** As `run`, but a non-zero status is an error that carries the program's last lines. */
export async function runOrThrow(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await run(argv, options);
  if (result.status === 0) return result;
  throw new FastioError(
    'HOST_UNSUPPORTED',
    `${argv[0] ?? ''} ended with status ${result.status}`,
    'Read its last lines above.',
    { detail: result.stderr.trimEnd().split('\n').slice(-20) },
  );
}

function forwardLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = '';
  stream.on('data', (chunk: Buffer | string) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(onLine);
  });
  stream.on('end', () => {
    if (rest !== '') onLine(rest);
  });
}
