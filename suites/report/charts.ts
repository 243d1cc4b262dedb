import type { TopLevelSpec } from 'vega-lite';
import type { ClaimResult, Figure, Point, Results } from '../schema/results.js';
import { conditionText } from './format.js';
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
  return [...charts, ...(await loadCharts(results, measured))];
}

function byCondition(points: readonly Point[]): ReadonlyMap<string, readonly Point[]> {
  const groups = new Map<string, Point[]>();
  for (const point of points) {
    const key = `${point.suite}-c${point.connections}-b${point.messageBytes}`;
    groups.set(key, [...(groups.get(key) ?? []), point]);
  }
  return groups;
}

interface Colours {
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
    caption: `Bars are 95 % intervals. Higher is better, but see the next chart for what it costs.${publishedCaption}`,
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
      ({ metric, suite, connections, messageBytes }) =>
        metric === 'ratioToBaseline' &&
        suite === base.suite &&
        connections === base.connections &&
        messageBytes === base.messageBytes,
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
  const values = points.flatMap(({ title, workers, summary }) => {
    const figure = summary?.[metric];
    return figure === undefined || figure === null
      ? []
      : [{ server: title, workers, value: figure.median, low: figure.low, high: figure.high }];
  });
  const workers = [...new Set([...values, ...published].map((row) => row.workers))].sort((a, b) => a - b);
  const x = {
    field: 'workers',
    type: 'quantitative' as const,
    title: 'threads, or kernel workers of FastIO',
    axis: { values: workers, format: 'd' },
    scale: { domain: [(workers[0] ?? 1) - 0.25, (workers.at(-1) ?? 1) + 0.25], nice: false, zero: false },
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
      mark: { type: 'point', filled: true, size: 55, opacity: 1 },
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
        mark: { type: 'text', align: 'right', dx: -2, dy: 16, color: mutedInk },
        encoding: { x, y: { ...y, field: 'value' }, text: { field: 'label' } },
      },
    );
  }
  return { width: 620, height: 300, data: { values }, layer: layers };
}

const percentileNames = [
  ['p50Ns', 'p50'],
  ['p99Ns', 'p99'],
  ['p999Ns', 'p99.9'],
] as const;

async function latencyChart(key: string, where: string, points: readonly Point[]): Promise<readonly Chart[]> {
  const rows = points.flatMap(({ title, workers, summary }) =>
    percentileNames.flatMap(([name, percentile]) => {
      const figure: Figure | null | undefined = summary?.[name];
      return figure === undefined || figure === null
        ? []
        : [{ row: `${title} ×${workers}`, percentile, us: figure.median / 1_000 }];
    }),
  );
  if (rows.length === 0) return [];
  const order = [...new Set(rows.map(({ row }) => row))];
  const y = { field: 'row', type: 'nominal' as const, title: null, sort: order };
  const x = {
    field: 'us',
    type: 'quantitative' as const,
    title: 'µs, logarithmic',
    scale: { type: 'log' as const, nice: true },
    axis: { format: '~s', grid: true, tickCount: 5 },
  };
  const shapes = { domain: ['p50', 'p99', 'p99.9'], range: ['circle', 'diamond', 'triangle-right'] };
  return [
    {
      name: `${key}-latency`,
      title: `Latency, ${where}`,
      caption:
        'Median, 99th and 99.9th percentile of all latencies together. In a closed loop the generator waits for each reply, so these say nothing about the tail under a given load.',
      svg: await drawSvg({
        width: 520,
        height: { step: 22 },
        data: { values: rows },
        layer: [
          {
            mark: { type: 'rule', color: mutedInk, opacity: 0.6 },
            encoding: {
              y,
              x: { ...x, aggregate: 'min' },
              x2: { field: 'us', aggregate: 'max' },
            },
          },
          {
            mark: { type: 'point', filled: true, size: 60, opacity: 1, color: seriesColours[0] ?? ink },
            encoding: {
              y,
              x,
              shape: {
                field: 'percentile',
                type: 'nominal',
                scale: shapes,
                legend: { symbolType: 'circle' },
              },
              color: {
                field: 'percentile',
                type: 'nominal',
                scale: {
                  domain: shapes.domain,
                  range: [seriesColours[0] ?? ink, seriesColours[1] ?? ink, seriesColours[6] ?? ink],
                },
              },
            },
          },
        ],
      }),
    },
  ];
}

async function instructionChart(
  key: string,
  where: string,
  points: readonly Point[],
  { titles, range }: Colours,
): Promise<readonly Chart[]> {
  const values = points.flatMap(({ title, workers, summary }) => {
    const figure = summary?.instructionsPerRequest;
    return figure === undefined || figure === null
      ? []
      : [{ server: title, row: `${title} ×${workers}`, instructions: figure.median }];
  });
  if (values.length === 0) return [];
  return [
    {
      name: `${key}-instructions`,
      title: `Instructions per request, ${where}`,
      caption: 'All instructions of the server and the kernel on its behalf. Fewer is better.',
      svg: await drawSvg({
        width: 520,
        height: { step: 22 },
        data: { values },
        mark: { type: 'bar', cornerRadiusEnd: 3, height: { band: 0.65 } },
        encoding: {
          y: { field: 'row', type: 'nominal', title: null, sort: null },
          x: {
            field: 'instructions',
            type: 'quantitative',
            title: 'instructions per request',
            axis: { format: '~s', grid: true },
          },
          color: {
            field: 'server',
            type: 'nominal',
            scale: { domain: [...titles], range: [...range] },
            legend: null,
          },
        },
      }),
    },
  ];
}

/** Open loop: latency against the load that was offered. */
async function loadCharts(results: Results, measured: readonly Point[]): Promise<readonly Chart[]> {
  const charts: Chart[] = [];
  for (const [key, points] of byCondition(measured.filter(({ rate }) => rate !== null))) {
    const [first] = points;
    if (first === undefined) continue;
    const { titles, range } = coloursOf(results, points);
    const values = points.flatMap(({ title, workers, rate, summary }) => {
      const p99 = summary?.p99Ns;
      return p99 === undefined || p99 === null
        ? []
        : [{ server: title, line: `${title} ×${workers}`, rate, us: p99.median / 1_000 }];
    });
    if (values.length === 0) continue;
    charts.push({
      name: `${key}-load`,
      title: `p99 latency against offered load, ${conditionText({ ...first, rate: null })}`,
      caption:
        'Open loop, measured from the time each request was to be sent: what waits in a queue counts. Lower and further right is better.',
      svg: await drawSvg({
        width: 620,
        height: 300,
        data: { values },
        mark: { type: 'line', point: { filled: true, size: 50 }, strokeWidth: 2 },
        encoding: {
          x: { field: 'rate', type: 'quantitative', title: 'requests/s sent', axis: { format: '~s' } },
          y: {
            field: 'us',
            type: 'quantitative',
            title: 'p99, µs, logarithmic',
            scale: { type: 'log' },
            axis: { format: '~s' },
          },
          color: { field: 'server', type: 'nominal', scale: { domain: [...titles], range: [...range] } },
          detail: { field: 'line' },
        },
      }),
    });
  }
  return charts;
}
