import { applicationBusy, cpusUsed } from '../suites/judge/samples.js';
import { conditions, findings, headline, limitations } from '../suites/report/findings.js';
import { conditionText, elapsed, number, percent, showsApplication } from '../suites/report/format.js';
import type { ClaimResult, Figure, Point, Results, Verdict } from '../suites/schema/results.js';
import { conditionKey } from '../suites/schema/results.js';

/** Marks text with an SGR colour, or leaves it alone where there are no colours. */
export type Paint = (sgr: string, text: string) => string;

const verdictColours: Readonly<Record<Verdict, string>> = { PASS: '32', FAIL: '31', 'NOT COMPARABLE': '33' };

interface Column {
  readonly title: string;
  readonly cell: (point: Point, published: Published) => string;
}

/** What was published for a point. */
interface Published {
  readonly rps: number | undefined;
  readonly ratio: number | undefined;
}

/** How busy the application was, in tables of servers that have CPUs beside it. */
const applicationColumn: Column = { title: 'app', cell: (point) => percent(applicationBusy(point)) };

const allColumns: readonly Column[] = [
  { title: '', cell: ({ title, workers }) => `${title} x${workers}` },
  { title: 'requests/s', cell: ({ summary }) => figure(summary?.requestsPerSecond) },
  { title: 'published', cell: (_, { rps }) => (rps === undefined ? '' : number(rps)) },
  { title: 'ratio', cell: ({ summary }) => figure(summary?.ratioToBaseline, ratioText) },
  { title: 'published', cell: (_, { ratio }) => (ratio === undefined ? '' : ratioText(ratio)) },
  { title: 'CPUs', cell: (point) => cpusUsed(point)?.toFixed(2) ?? '' },
  { title: 'per CPU', cell: ({ summary }) => figure(summary?.requestsPerSecondPerCpu) },
  { title: 'instr.', cell: ({ summary }) => figure(summary?.instructionsPerRequest) },
  { title: 'p50 us', cell: ({ summary }) => figure(summary?.p50Ns, microseconds) },
  { title: 'p99 us', cell: ({ summary }) => figure(summary?.p99Ns, microseconds) },
];

const ratioText = (value: number): string => value.toFixed(2);
const microseconds = (ns: number): string => (ns / 1_000).toFixed(ns < 100_000 ? 1 : 0);

function figure(value: Figure | null | undefined, show: (value: number) => string = number): string {
  return value === null || value === undefined ? '-' : show(value.median);
}

/** A run's outcome for a terminal: the tables beside what was published, the verdicts, what was found. */
export function resultsText(results: Results, paint: Paint): string {
  const { clock, claims } = results;
  const how =
    clock.name === 'virtual' ? `virtual time, modelled (${clock.description ?? ''})` : 'wall-clock time';
  const idWidth = Math.max(0, ...claims.map(({ id }) => id.length));
  const parts = [
    ...conditions(results.points).map((points) => tableText(points, claims, paint)),
    claims.map((claim) => claimText(claim, idWidth, paint)).join('\n'),
    `${paint('1', headline(results))}\n${findings(results)
      .map((line) => `- ${line}`)
      .join('\n')}`,
    `Measured in ${how}.\n${limitations(results).length} things this run cannot say are in the report.`,
    runText(results),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

function tableText(points: readonly Point[], claims: readonly ClaimResult[], paint: Paint): string {
  const [first] = points;
  if (first === undefined) return '';
  const cellOf = ({ cell }: Column, point: Point): string => cell(point, publishedFor(point, claims));
  const columns = allColumns
    .filter((column) => points.some((point) => cellOf(column, point) !== ''))
    .flatMap((column) =>
      column.title === 'CPUs' && showsApplication(points) ? [column, applicationColumn] : [column],
    );
  const rows = points.map((point) => columns.map((column) => cellOf(column, point)));
  const widths = columns.map(({ title }, at) =>
    Math.max(title.length, ...rows.map((cells) => cells[at]?.length ?? 0)),
  );
  const lineOf = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join('  ');
  const body = rows.map((cells, at) => {
    const { status, reasons } = points[at] ?? first;
    const note = status === 'ok' ? '' : `  ${paint('31', `${status}: ${reasons[0] ?? ''}`)}`;
    return `${lineOf(cells)}${note}`.trimEnd();
  });
  const head = lineOf(columns.map(({ title }) => title));
  return [`${first.suite}: ${conditionText(first)}`, paint('1', head), ...body].join('\n');
}

function publishedFor(point: Point, claims: readonly ClaimResult[]): Published {
  const find = (metric: string): number | undefined =>
    claims.find(
      (claim) =>
        claim.kind === 'published' &&
        claim.metric === metric &&
        claim.suite === point.suite &&
        claim.server === point.server &&
        claim.workers.length === 1 &&
        claim.workers[0] === point.workers &&
        conditionKey(claim) === conditionKey(point),
    )?.published;
  return { rps: find('requestsPerSecond'), ratio: find('ratioToBaseline') };
}

function claimText(
  { id, title, measured, low, high, verdict, reason }: ClaimResult,
  idWidth: number,
  paint: Paint,
): string {
  const found =
    measured === null || low === null || high === null
      ? reason
      : `measured ${number(measured)} (${number(low)} to ${number(high)})`;
  const why = verdict === 'NOT COMPARABLE' && measured !== null ? `; ${reason}` : '';
  return `${paint(verdictColours[verdict], verdict.padEnd(14))}  ${id.padEnd(idWidth)}  ${title}: ${found}${why}`;
}

function runText({ progress, host, seed }: Results): string {
  return `${progress.finished} of ${progress.runs} server starts in ${elapsed(host.elapsedSeconds)}, seed ${seed}`;
}
