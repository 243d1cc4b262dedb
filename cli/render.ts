import type { Progress, Report } from '../vm/progress.js';
import { liveTable, tableHead, tableLine } from './live-table.js';
import { planText, runText } from './render-run.js';

/** Where progress goes. Results go to stdout; progress and errors to stderr, so that a pipe sees only results. */
export interface Terminal {
  readonly write: (text: string) => void;
  readonly columns: number;
  readonly rows: number;
  readonly isTTY: boolean;
  readonly colour: boolean;
}

/** Colours only on a terminal, and never when NO_COLOR is set. */
function hasColours({ isTTY }: { readonly isTTY: boolean }): boolean {
  return isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
}

/** For results, which go to standard output. */
export function stdoutPaint(): (sgr: string, text: string) => string {
  const colour = hasColours(process.stdout);
  return (sgr, text) => paint({ colour }, sgr, text);
}

/** Standard error as it is. */
export function stderrTerminal(): Terminal {
  const isTTY = process.stderr.isTTY;
  return {
    write: (text) => process.stderr.write(text),
    columns: isTTY ? process.stderr.columns : 100,
    rows: isTTY ? process.stderr.rows : 0,
    isTTY: isTTY && process.env['TERM'] !== 'dumb',
    colour: hasColours(process.stderr),
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

/** Shows progress to people: a table and a line that change on a terminal, plain lines elsewhere. */
export function renderer({ terminal, verbose, now }: RenderOptions): Report & { readonly clear: () => void } {
  const transfers = new Map<string, { readonly startMs: number; shownMs: number }>();
  const table = liveTable();
  /** Lines on the screen that the next output replaces; the cursor stands at the end of the last. */
  let shown = 0;
  let status = '';
  let hasHead = false;
  const clear = (): void => {
    if (shown > 0) terminal.write(`\r${shown > 1 ? `\u001b[${shown - 1}A` : ''}\u001b[J`);
    shown = 0;
  };
  const draw = (): void => {
    clear();
    // What does not fit into a line would wrap and be left behind.
    const width = Math.max(20, terminal.columns - 1);
    const lines = [...table.lines(terminal.rows - 2), ...(status === '' ? [] : [status])];
    if (lines.length === 0) return;
    terminal.write(lines.map((text) => text.slice(0, width)).join('\n'));
    shown = lines.length;
  };
  const line = (text: string): void => {
    clear();
    terminal.write(`${text}\n`);
    if (terminal.isTTY && table.lines(terminal.rows).length > 0) draw();
  };
  const live = (text: string): void => {
    status = text;
    draw();
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
        status = '';
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
      const text = `    ${runText(event)}`;
      if (!terminal.isTTY) {
        // What was started will say that it is done.
        if (event.phase !== 'started') line(text);
      } else if (event.phase === 'failed' || event.phase === 'invalid') line(text);
      else live(text);
    },
    row: (event) => {
      table.put(event);
      if (terminal.isTTY) {
        draw();
        return;
      }
      if (!hasHead) line(`    ${tableHead}`);
      hasHead = true;
      line(`    ${tableLine(event)}`);
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
export function paint(terminal: Pick<Terminal, 'colour'>, sgr: string, text: string): string {
  return terminal.colour ? `\u001b[${sgr}m${text}\u001b[0m` : text;
}
