import type { KernelReport } from '../vm.js';
import { reportEnd, reportPatterns } from './patterns.js';

/** A report that is expected and does no harm, with the day after which it counts again. */
export interface AllowedReport {
  readonly headline: RegExp;
  readonly reason: string;
  /** `YYYY-MM-DD`, UTC. */
  readonly until: string;
}

export interface ScannerOptions {
  readonly allow?: readonly AllowedReport[];
  /** Reports from before this console began. */
  readonly earlier?: readonly KernelReport[];
  readonly now?: () => Date;
  /** Called for each line, complete and without its line end. */
  readonly onLine?: (line: string) => void;
  /** Called when a report begins; it goes on growing. */
  readonly onReport?: (report: KernelReport) => void;
}

export interface ConsoleScanner {
  /** Takes console output as it comes, cut anywhere. */
  feed(chunk: Uint8Array): void;
  /** The reports since a mark (0: all), and the mark that follows them. */
  trouble(since: number): { readonly mark: number; readonly reports: readonly KernelReport[] };
  /** The last lines, at most `count` and never more than 200, an unfinished one included. */
  lastLines(count: number): readonly string[];
}

const reportLinesMax = 60;
const reportsMax = 1_000;
const keptLines = 200;
/** A longer line is cut: nothing the guest prints may fill the host's memory. */
const lineBytesMax = 4_096;

/** printk's timestamp and, where configured, the caller. Lines without one are not the kernel's. */
const kernelPrefix = /\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? /;

interface OpenReport extends KernelReport {
  readonly lines: string[];
}

/** Recognises kernel trouble on a console, line by line, in bounded memory. */
export function createScanner(options: ScannerOptions = {}): ConsoleScanner {
  const decoder = new TextDecoder();
  const today = (options.now?.() ?? new Date()).toISOString().slice(0, 10);
  const allow = (options.allow ?? []).filter(({ until }) => today <= until);
  const reports: KernelReport[] = [...(options.earlier ?? [])];
  const last: string[] = [];
  let partial = '';
  let open: OpenReport | undefined;

  function begin(severity: KernelReport['severity'], headline: string): void {
    const report: OpenReport = { severity, headline, lines: [] };
    // The report of an allowed headline swallows its own lines and is never handed out.
    open = report;
    if (allow.some((entry) => entry.headline.test(headline)) || reports.length >= reportsMax) return;
    reports.push(report);
    options.onReport?.(report);
  }

  function takeLine(line: string): void {
    options.onLine?.(line);
    last.push(line);
    if (last.length > keptLines) last.shift();
    const prefix = kernelPrefix.exec(line);
    const text = prefix === null ? undefined : line.slice(prefix.index + prefix[0].length);
    const match = text === undefined ? undefined : reportPatterns.find(({ start }) => start.test(text));
    if (text !== undefined && match !== undefined && !(match.joins === true && open !== undefined)) {
      begin(match.severity, text);
      return;
    }
    if (open === undefined) return;
    open.lines.push(line);
    if (open.lines.length >= reportLinesMax || (text !== undefined && reportEnd.test(text))) open = undefined;
  }

  return {
    feed(chunk) {
      const lines = (partial + decoder.decode(chunk, { stream: true })).split('\n');
      partial = (lines.pop() ?? '').slice(0, lineBytesMax);
      for (const line of lines) takeLine(line.replace(/\r+$/, '').slice(0, lineBytesMax));
    },
    trouble: (since) => ({ mark: reports.length, reports: reports.slice(since) }),
    lastLines: (count) => (partial === '' ? last : [...last, partial]).slice(-Math.min(count, keptLines)),
  };
}
