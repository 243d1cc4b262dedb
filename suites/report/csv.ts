import type { Figure, Results } from '../schema/results.js';

const figures = [
  'requestsPerSecond',
  'requestsPerSecondPerCpu',
  'ratioToBaseline',
  'perCpuRatioToBaseline',
  'p50Ns',
  'p99Ns',
  'p999Ns',
  'instructionsPerRequest',
] as const;

/** One line per point; an interval takes three columns. */
export function pointsCsv({ points }: Results): string {
  const head = [
    'suite,server,workers,connections,messageBytes,request,rate,loop,clock,accel,status,comparable',
    ...figures.map((name) => `${name},${name}Low,${name}High`),
    'samples,errors,reasons',
  ].join(',');
  const lines = points.map((point) => {
    const { suite, server, workers, connections, messageBytes, request, rate, loop, clock, accel } = point;
    return [
      ...[suite, server, workers, connections, messageBytes, request ?? '', rate ?? '', loop, clock, accel],
      ...[point.status, point.comparable],
      ...figures.flatMap((name) => ends(point.summary?.[name] ?? null)),
      ...[point.samples.length, point.errors, point.reasons.join('; ')],
    ]
      .map(cell)
      .join(',');
  });
  return `${[head, ...lines].join('\n')}\n`;
}

/** One line per sample: every window of every server start, outliers marked. */
export function samplesCsv({ points }: Results): string {
  const keys = [
    'boot',
    'process',
    'window',
    'requestsPerSecond',
    'cpusUsed',
    'requestsPerSecondPerCpu',
    'p50Ns',
    'p99Ns',
    'p999Ns',
    'latencies',
    'generatorBusy',
    'applicationBusy',
    'droppedIntervals',
    'steady',
    'outlier',
    'errors',
  ] as const;
  const lines = points.flatMap(({ id, samples }) =>
    samples.map((sample) => [id, ...keys.map((key) => sample[key] ?? '')].map(cell).join(',')),
  );
  return `${[`point,${keys.join(',')}`, ...lines].join('\n')}\n`;
}

function ends(figure: Figure | null): readonly (number | string)[] {
  return figure === null ? ['', '', ''] : [figure.median, figure.low, figure.high];
}

/** RFC 4180: quoted when it must be. */
function cell(value: string | number | boolean): string {
  const text = String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
