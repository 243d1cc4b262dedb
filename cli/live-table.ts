import type { Progress, ProgressFigure } from '../vm/progress.js';

type Row = Extract<Progress, { kind: 'row' }>;

interface Column {
  readonly title: string;
  readonly width: number;
  readonly cell: (row: Row) => string;
}

const columns: readonly Column[] = [
  {
    title: 'server',
    width: -22,
    cell: ({ server, request }) => (request === undefined ? server : `${server} ${request}`),
  },
  { title: 'workers', width: 7, cell: ({ workers }) => String(workers) },
  { title: 'conn', width: 5, cell: ({ connections }) => String(connections) },
  { title: 'bytes', width: 7, cell: ({ messageBytes }) => String(messageBytes) },
  { title: 'req/s', width: 9, cell: ({ requestsPerSecond }) => figure(requestsPerSecond, 0) },
  { title: 'published', width: 9, cell: ({ publishedRequestsPerSecond: value }) => plain(value, 0) },
  { title: 'x base', width: 6, cell: ({ ratioToBaseline }) => figure(ratioToBaseline, 2) },
  { title: 'published', width: 9, cell: ({ publishedRatio }) => plain(publishedRatio, 2) },
  { title: 'per CPU', width: 8, cell: ({ requestsPerSecondPerCpu }) => figure(requestsPerSecondPerCpu, 0) },
  { title: 'p50 us', width: 7, cell: ({ p50Ns }) => microseconds(p50Ns) },
  { title: 'p99 us', width: 7, cell: ({ p99Ns }) => microseconds(p99Ns) },
];

/** The heading of the table. */
export const tableHead: string = columns.map(({ title, width }) => aligned(title, width)).join(' ');

/** One line of the table. */
export function tableLine(row: Row): string {
  const cells = columns.map(({ width, cell }) => aligned(cell(row), width)).join(' ');
  return `${cells}${row.note === '' ? '' : `  ${row.note}`}`;
}

/** A negative width aligns to the left. */
function aligned(text: string, width: number): string {
  return width < 0 ? text.padEnd(-width) : text.padStart(width);
}

function plain(value: number | null, digits: number): string {
  if (value === null) return '';
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function figure(value: ProgressFigure | null, digits: number): string {
  return value === null ? '-' : plain(value.median, digits);
}

function microseconds(value: ProgressFigure | null): string {
  return value === null ? '-' : plain(value.median / 1_000, value.median < 100_000 ? 1 : 0);
}

/** Rows as they fill, in the order of their servers and workers rather than that of the measurements. */
export interface LiveTable {
  readonly put: (row: Row) => void;
  /** At most `height` lines, heading included; empty before the first row. */
  readonly lines: (height: number) => readonly string[];
}

export function liveTable(): LiveTable {
  const rows = new Map<string, Row>();
  let last = '';
  return {
    put: (row) => {
      rows.set(row.point, row);
      last = row.point;
    },
    lines: (height) => {
      if (rows.size === 0 || height < 3) return [];
      const sorted = [...rows.values()].sort(
        (a, b) =>
          a.suite.localeCompare(b.suite) ||
          a.connections - b.connections ||
          a.messageBytes - b.messageBytes ||
          (a.request ?? '').localeCompare(b.request ?? '') ||
          a.server.localeCompare(b.server) ||
          a.workers - b.workers,
      );
      // A terminal too low for all shows the part that changed last.
      const room = height - 1;
      const at = sorted.findIndex(({ point }) => point === last);
      const from = Math.max(0, Math.min(at - Math.floor(room / 2), sorted.length - room));
      return [tableHead, ...sorted.slice(from, from + room).map(tableLine)];
    },
  };
}
