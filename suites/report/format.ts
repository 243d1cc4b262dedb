import { applicationBusy } from '../judge/samples.js';
import type { Figure, Point } from '../schema/results.js';

/** Three significant digits, with thousands apart: `1.06`, `69,800`. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return 'n/a';
  const magnitude = Math.abs(value);
  if (magnitude >= 1_000) {
    const step = 10 ** Math.max(0, Math.floor(Math.log10(magnitude)) - 3);
    return (Math.round(value / step) * step).toLocaleString('en-US');
  }
  return magnitude >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** A duration in the unit people would say it in. */
export function duration(ns: number): string {
  if (ns < 1_000) return `${Math.round(ns)} ns`;
  if (ns < 1_000_000) return `${number(ns / 1_000)} µs`;
  return ns < 1_000_000_000 ? `${number(ns / 1_000_000)} ms` : `${number(ns / 1_000_000_000)} s`;
}

/** `3 min 20 s`, `2 h 5 min`. */
export function elapsed(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3_600)} h ${Math.floor((whole % 3_600) / 60)} min`;
}

/** The interval alone: `68,900 to 70,400`; empty when there is none, or none that shows in three digits. */
export function interval(figure: Figure | null, show: (value: number) => string = number): string {
  if (figure === null || figure.level === 'none') return '';
  const [low, high] = [show(figure.low), show(figure.high)];
  if (low === high) return '';
  // A unit that both ends share is said once.
  const unit = / \S+$/.exec(high)?.[0];
  return unit !== undefined && low.endsWith(unit)
    ? `${low.slice(0, -unit.length)} to ${high}`
    : `${low} to ${high}`;
}

/** Value and interval in one line, for tables of text. */
export function withInterval(figure: Figure | null, show: (value: number) => string = number): string {
  if (figure === null) return '–';
  const range = interval(figure, show);
  return range === '' ? show(figure.median) : `${show(figure.median)} (${range})`;
}

export function bytes(count: number): string {
  if (count >= 1_048_576 && count % 1_048_576 === 0) return `${count / 1_048_576} MiB`;
  return count >= 1_024 && count % 1_024 === 0 ? `${count / 1_024} KiB` : `${count} B`;
}

/** `25 connections, 64 B`, and the kind of request, and the rate in an open loop. */
export function conditionText({
  connections,
  messageBytes,
  rate,
  request,
}: Pick<Point, 'connections' | 'messageBytes' | 'rate' | 'request'>): string {
  const sent = rate === null ? '' : `, ${number(rate)} requests/s sent`;
  const asked = request === undefined ? '' : `${request}, `;
  return `${asked}${connections} connection${connections === 1 ? '' : 's'}, ${bytes(messageBytes)}${sent}`;
}

/** A share of time as tables show it. */
export const percent = (share: number | null): string =>
  share === null ? '–' : `${(share * 100).toFixed(0)} %`;

/** Whether a table says how busy applications were: only where one of several CPUs was theirs. */
export const showsApplication = (points: readonly Point[]): boolean =>
  points.some((point) => point.serverCpus > 1 && applicationBusy(point) !== null);

/** How long an interval's label is, for people. */
export function levelText({ level, n }: Figure): string {
  return level === 'none' ? 'one sample' : `${n} ${level}${level === 'process' ? 'es' : 's'}`;
}

export function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
