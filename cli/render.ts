import type { Progress, Report } from '../vm/progress.js';
import { planText, rowText, runText } from './render-run.js';

/** Where progress goes. Results go to stdout; progress and errors to stderr, so that a pipe sees only results. */
export interface Terminal {
  readonly write: (text: string) => void;
  readonly columns: number;
  readonly isTTY: boolean;
  readonly colour: boolean;
}

/** Standard error as it is: colours only on a terminal, and never when NO_COLOR is set. */
export function stderrTerminal(): Terminal {
  const isTTY = process.stderr.isTTY;
  const plain = (process.env['NO_COLOR'] ?? '') !== '' || process.env['TERM'] === 'dumb';
  return {
    write: (text) => process.stderr.write(text),
    columns: isTTY ? process.stderr.columns : 100,
    isTTY: isTTY && process.env['TERM'] !== 'dumb',
    colour: isTTY && !plain,
  };
}

const bytesPerMB = 1_000_000;

/** `12.3 of 235.0 MB, 8.1 MB/s`; the total is left out while unknown. */
export function transferText(doneBytes: number, totalBytes: number, elapsedMs: number): string {
  const mb = (bytes: number): string => (bytes / bytesPerMB).toFixed(1);
  const amount = totalBytes > 0 ? `${mb(doneBytes)} of ${mb(totalBytes)} MB` : `${mb(doneBytes)} MB`;
  return elapsedMs < 200 ? amount : `${amount}, ${mb((doneBytes * 1000) / elapsedMs)} MB/s`;
}

export interface RenderOptions {
  readonly terminal: Terminal;
  /** Also show every line of build and guest output. */
  readonly verbose: boolean;
  readonly now: () => number;
}

type Renderers = { readonly [K in Progress['kind']]: (event: Extract<Progress, { kind: K }>) => void };

/** Shows progress to people: one line that changes on a terminal, plain lines elsewhere. */
export function renderer({ terminal, verbose, now }: RenderOptions): Report & { readonly clear: () => void } {
  const transfers = new Map<string, { readonly startMs: number; shownMs: number }>();
  let hasLive = false;
  const clear = (): void => {
    if (hasLive) terminal.write('\r\u001b[K');
    hasLive = false;
  };
  const line = (text: string): void => {
    clear();
    terminal.write(`${text}\n`);
  };
  const live = (text: string): void => {
    terminal.write(`\r\u001b[K${text.slice(0, Math.max(20, terminal.columns - 1))}`);
    hasLive = true;
  };
  const renderers: Renderers = {
    stage: ({ name, detail }) => {
      line(`${paint(terminal, '1', '==>')} ${name}${detail === undefined ? '' : ` (${detail})`}`);
    },
    transfer: ({ name, doneBytes, totalBytes, items }) => {
      const at = now();
      const known = transfers.get(name);
      const state = known ?? { startMs: at, shownMs: 0 };
      if (known === undefined) transfers.set(name, state);
      const finished = totalBytes > 0 && doneBytes >= totalBytes;
      // Often enough to be alive on a terminal, seldom enough to be read in a CI log.
      if (!finished && at - state.shownMs < (terminal.isTTY ? 100 : 5_000)) return;
      state.shownMs = at;
      const count = items === undefined ? '' : ` ${items.done}/${items.total}`;
      const text = `    ${name}:${count} ${transferText(doneBytes, totalBytes, at - state.startMs)}`;
      if (finished) {
        transfers.delete(name);
        line(text);
      } else if (terminal.isTTY) live(text);
      else line(text);
    },
    line: ({ from, text }) => {
      if (verbose) line(`    ${from} | ${text}`);
    },
    warning: ({ message, remedy }) => {
      line(`${paint(terminal, '33', 'warning:')} ${message}`);
      if (remedy !== '') line(`         ${remedy}`);
    },
    plan: (event) => {
      line(`${paint(terminal, '1', '==>')} ${planText(event)}`);
    },
    run: (event) => {
      if (terminal.isTTY && event.phase === 'started') live(`    ${runText(event)}`);
      else line(`    ${runText(event)}`);
    },
    row: (event) => {
      line(`  ${rowText(event)}`);
    },
  };
  const report = (event: Progress): void => {
    (renderers[event.kind] as (event: Progress) => void)(event);
  };
  return Object.assign(report, { clear });
}

/** Progress as one JSON object a line, for programs. */
export function jsonRenderer(terminal: Terminal): Report & { readonly clear: () => void } {
  const report = (event: Progress): void => {
    terminal.write(`${JSON.stringify(event)}\n`);
  };
  return Object.assign(report, { clear: () => undefined });
}

/** Wraps `text` in an SGR colour where the terminal has colours. */
export function paint(terminal: Terminal, sgr: string, text: string): string {
  return terminal.colour ? `\u001b[${sgr}m${text}\u001b[0m` : text;
}
