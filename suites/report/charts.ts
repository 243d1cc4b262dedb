import type { TopLevelSpec } from 'vega-lite';
import type { ClaimResult, Point, Results } from '../schema/results.js';
import { conditionKey } from '../schema/results.js';
import { conditionText } from './format.js';
import { instructionChart, latencyChart, loadChart } from './latency-charts.js';
import { drawSvg, ink, mutedInk, seriesColours } from './svg.js';

export interface Chart {
  /** Fit for a file name. */
  readonly name: string;
  readonly title: string;
  /** What to read off it, in a sentence. */
  readonly caption: string;
  readonly svg: string;
}

type Metric = 'requestsPerSecond' | 'requestsPerSecondPerCpu';
type Layers = Extract<TopLevelSpec, { layer: unknown }>['layer'];

/** Draws all charts that the results have figures for. */
export async function drawCharts(results: Results): Promise<readonly Chart[]> {
  const charts: Chart[] = [];
  const measured = results.points.filter(({ summary }) => summary !== null);
  for (const [key, points] of byCondition(measured.filter(({ rate }) => rate === null))) {
    const [first] = points;
    if (first === undefined) continue;
    const where = conditionText(first);
    const colours = coloursOf(results, points);
    charts.push(...(await scalingCharts(key, where, points, colours, results.claims)));
    charts.push(...(await latencyChart(key, where, points)));
    charts.push(...(await instructionChart(key, where, points, colours)));
  }
  for (const [key, points] of byCondition(measured.filter(({ rate }) => rate !== null))) {
    charts.push(...(await loadChart(key, points, coloursOf(results, points))));
  }
  return charts;
}

function byCondition(points: readonly Point[]): ReadonlyMap<string, readonly Point[]> {
  const groups = new Map<string, Point[]>();
  for (const point of points) {
    const kind = point.request === undefined ? '' : `-${point.request}`;
    const key = `${point.suite}-c${point.connections}-b${point.messageBytes}${kind}`;
    groups.set(key, [...(groups.get(key) ?? []), point]);
  }
  return groups;
}

export interface Colours {
  readonly titles: readonly string[];
  readonly range: readonly string[];
}

/** A server's colour depends on its place among all servers of the run, not on the chart. */
function coloursOf(results: Results, points: readonly Point[]): Colours {
  const all = [...new Set(results.points.map(({ title }) => title))];
  const titles = [...new Set(points.map(({ title }) => title))];
  return {
    titles,
    range: titles.map((title) => seriesColours[all.indexOf(title) % seriesColours.length] ?? ink),
  };
}

async function scalingCharts(
  key: string,
  where: string,
  points: readonly Point[],
  colours: Colours,
  claims: readonly ClaimResult[],
): Promise<readonly Chart[]> {
  const charts: Chart[] = [];
  const published = publishedLine(points, claims);
  const publishedCaption =
    published.length === 0 ? '' : ' The dashed line is the published table, as ratios to this run’s epoll.';
  charts.push({
    name: `${key}-requests`,
    title: `Requests per second, ${where}`,
    caption: `Higher is better, but see the next chart for what it costs. Bars are 95 % intervals, often shorter than the dot; hollow dots are invalid points.${publishedCaption}`,
    svg: await drawSvg(byWorkers(points, 'requestsPerSecond', 'requests/s', colours, published)),
  });
  if (points.some(({ summary }) => summary?.requestsPerSecondPerCpu)) {
    charts.push({
      name: `${key}-per-cpu`,
      title: `Requests per second per CPU used, ${where}`,
      caption:
        'The same requests divided by the CPUs that were busy for them; spinning counts as use. A flat line scales without waste.',
      svg: await drawSvg(byWorkers(points, 'requestsPerSecondPerCpu', 'requests/s per CPU', colours, [])),
    });
  }
  return charts;
}

interface PublishedDot {
  readonly workers: number;
  readonly value: number;
}

/** Published ratios, scaled by the baseline as it was measured here. */
function publishedLine(points: readonly Point[], claims: readonly ClaimResult[]): readonly PublishedDot[] {
  const base = points.find(({ baseline }) => baseline);
  const scale = base?.summary?.requestsPerSecond.median;
  if (base === undefined || scale === undefined) return [];
  return claims
    .filter(
      (claim) =>
        claim.kind === 'published' &&
        claim.metric === 'ratioToBaseline' &&
        claim.suite === base.suite &&
        conditionKey(claim) === conditionKey(base),
    )
    .flatMap(({ workers: [workers], published }) =>
      workers === undefined ? [] : [{ workers, value: published * scale }],
    );
}

function byWorkers(
  points: readonly Point[],
  metric: Metric,
  unit: string,
  { titles, range }: Colours,
  published: readonly PublishedDot[],
): TopLevelSpec {
  const values = points.flatMap(({ title, workers, summary, status }) => {
    const figure = summary?.[metric];
    return figure === undefined || figure === null
      ? []
      : [
          {
            server: title,
            workers,
            value: figure.median,
            low: figure.low,
            high: figure.high,
            invalid: status !== 'ok',
          },
        ];
  });
  const workers = [...new Set([...values, ...published].map((row) => row.workers))].sort((a, b) => a - b);
  const x = {
    field: 'workers',
    type: 'quantitative' as const,
    title: 'threads, or kernel workers of FastIO',
    axis: { values: workers, format: 'd' },
    scale: {
      domain: [(workers[0] ?? 1) - 0.2, (workers.at(-1) ?? 1) + (published.length > 0 ? 0.6 : 0.2)],
      nice: false,
      zero: false,
    },
  };
  const y = {
    type: 'quantitative' as const,
    title: unit,
    axis: { format: '~s', tickCount: 6 },
    scale: { zero: true },
  };
  const color = {
    field: 'server',
    type: 'nominal' as const,
    scale: { domain: [...titles], range: [...range] },
  };
  const layers: Layers = [
    {
      mark: { type: 'rule', strokeWidth: 1.5, opacity: 0.7 },
      encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color },
    },
    { mark: { type: 'line', strokeWidth: 2 }, encoding: { x, y: { ...y, field: 'value' }, color } },
    {
      transform: [{ filter: '!datum.invalid' }],
      mark: { type: 'point', filled: true, size: 60, opacity: 1 },
      encoding: { x, y: { ...y, field: 'value' }, color },
    },
    {
      transform: [{ filter: 'datum.invalid' }],
      mark: { type: 'point', filled: false, size: 60, opacity: 1, strokeWidth: 1.5 },
      encoding: { x, y: { ...y, field: 'value' }, color },
    },
  ];
  if (published.length > 0) {
    const last = published.at(-1);
    layers.unshift(
      {
        data: { values: [...published] },
        mark: { type: 'line', strokeDash: [5, 4], strokeWidth: 1.5, color: mutedInk },
        encoding: { x, y: { ...y, field: 'value' } },
      },
      {
        data: { values: [...published] },
        mark: { type: 'point', shape: 'diamond', filled: true, size: 45, color: mutedInk, opacity: 1 },
        encoding: { x, y: { ...y, field: 'value' } },
      },
      {
        data: { values: last === undefined ? [] : [{ ...last, label: 'published' }] },
        mark: { type: 'text', align: 'left', dx: 9, color: mutedInk, fontSize: 12 },
        encoding: { x, y: { ...y, field: 'value' }, text: { field: 'label' } },
      },
    );
  }
  return { width: 900, height: 340, data: { values }, layer: layers };
}
