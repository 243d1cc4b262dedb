import { FastioError } from '../vm/errors.js';
import type { Report } from '../vm/progress.js';
import { exitCodeOf } from './exit.js';
import type { Terminal } from './render.js';
import { jsonRenderer, paint, renderer, stderrTerminal, stdoutPaint } from './render.js';

/** What every command gets: where to report, when to stop, and how to print its result. */
export interface Context {
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly json: boolean;
  /** Prints a result on stdout: `value` as JSON, or `text` for people. */
  readonly print: (value: unknown, text: string) => void;
  /** Marks text for `print` with an SGR colour, where stdout has colours. */
  readonly paint: (sgr: string, text: string) => string;
}

export interface GlobalOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
  readonly quiet?: boolean;
}

/** How long a command may take to clean up after Ctrl-C before the process goes anyway. */
const cleanUpMs = 10_000;

/**
 * Runs a command to its end and exits the process with its code. SIGINT, SIGTERM and SIGHUP abort the command's
 * signal once, so that it cleans up; a second one ends the process at once.
 */
export async function runCommand(
  options: GlobalOptions,
  command: (context: Context) => Promise<number>,
): Promise<never> {
  const terminal = stderrTerminal();
  const json = options.json === true;
  const show = json
    ? jsonRenderer(terminal)
    : renderer({ terminal, verbose: options.verbose === true, now: () => performance.now() });
  const report: Report = (event) => {
    if (options.quiet !== true || event.kind === 'warning') show(event);
  };
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(130);
      setTimeout(() => process.exit(130), cleanUpMs).unref();
      stop.abort(
        new FastioError('INTERRUPTED', `stopped by ${name}`, 'Run the same command again to go on.'),
      );
    });
  }
  const print = (value: unknown, text: string): void => {
    show.clear();
    process.stdout.write(json ? `${JSON.stringify(value, undefined, 2)}\n` : text === '' ? '' : `${text}\n`);
  };
  let code: number;
  try {
    code = await command({ report, signal: stop.signal, json, print, paint: stdoutPaint() });
  } catch (error) {
    show.clear();
    printError(error, terminal, json);
    code = exitCodeOf(error);
  }
  await drained();
  process.exit(code);
}

/** Shows a failure: what went wrong, the lines that prove it, what to do. A bug keeps its stack. */
export function printError(error: unknown, terminal: Terminal, json: boolean): void {
  if (!(error instanceof FastioError)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    terminal.write(
      json ? `${JSON.stringify({ kind: 'error', code: 'BUG', message: text })}\n` : `bug: ${text}\n`,
    );
    return;
  }
  const { code, message, remedy, detail } = error;
  if (json) {
    terminal.write(`${JSON.stringify({ kind: 'error', code, message, remedy, detail })}\n`);
    return;
  }
  for (const line of detail) terminal.write(`    | ${line}\n`);
  terminal.write(`${paint(terminal, '31', 'error:')} ${message}\n`);
  if (remedy !== '') terminal.write(`       ${remedy}\n`);
}

/** Pipes are written asynchronously; what was printed must be out before the process ends. */
async function drained(): Promise<void> {
  await Promise.all(
    [process.stdout, process.stderr].map(
      (stream) =>
        new Promise<void>((resolve) => {
          stream.write('', () => {
            resolve();
          });
        }),
    ),
  );
}
