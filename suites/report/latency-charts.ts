import type { Figure, Point } from '../schema/results.js';
import type { Chart, Colours } from './charts.js';
import { conditionText } from './format.js';
import { drawSvg, ink, mutedInk, seriesColours } from './svg.js';

const percentileNames = [
  ['p50Ns', 'p50'],
  ['p99Ns', 'p99'],
  ['p999Ns', 'p99.9'],
] as const;

/** Percentiles of each server as dots on a logarithmic scale. */
export async function latencyChart(
  key: string,
  where: string,
  points: readonly Point[],
): Promise<readonly Chart[]> {
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
        width: 800,
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

/** Instructions per request, where the clock counts them. */
export async function instructionChart(
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
      caption:
        'All instructions of the server and the kernel on its behalf, spinning included. Fewer is better.',
      svg: await drawSvg({
        width: 800,
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
export async function loadChart(
  key: string,
  points: readonly Point[],
  { titles, range }: Colours,
): Promise<readonly Chart[]> {
  const [first] = points;
  const values = points.flatMap(({ title, workers, rate, summary }) => {
    const p99 = summary?.p99Ns;
    return p99 === undefined || p99 === null
      ? []
      : [{ server: title, line: `${title} ×${workers}`, rate, us: p99.median / 1_000 }];
  });
  if (first === undefined || values.length === 0) return [];
  return [
    {
      name: `${key}-load`,
      title: `p99 latency against offered load, ${conditionText({ ...first, rate: null })}`,
      caption:
        'Open loop, measured from the time each request was to be sent: what waits in a queue counts. Lower and further right is better.',
      svg: await drawSvg({
        width: 900,
        height: 320,
        data: { values },
        mark: { type: 'line', point: { filled: true, size: 55 }, strokeWidth: 2 },
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
    },
  ];
}
