import type { Random } from '../plan/random.js';
import type { RunRecord } from '../run/record.js';
import type { Figure, Point, Sample } from '../schema/results.js';
import type { Placed } from '../statistics/bootstrap.js';
import type { Histogram } from '../statistics/histogram.js';
import { countOf, decodeHistogram, percentile } from '../statistics/histogram.js';
import { outliersOf } from '../statistics/outliers.js';
import { percentileFigure } from '../statistics/percentiles.js';
import { dropWarmup } from '../statistics/warmup.js';

/** Percentiles every row has. */
const fractions = { p50Ns: 0.5, p99Ns: 0.99, p999Ns: 0.999 } as const;
export type PercentileName = keyof typeof fractions;

/** One sample per window of the finished runs of a point, by boot, process and window. */
export function samplesOf(records: readonly RunRecord[]): readonly Sample[] {
  const samples = [...records]
    .sort((a, b) => a.boot - b.boot || a.process - b.process)
    .flatMap((record) => record.windows.map((_, window) => sampleOf(record, window)));
  const marked = outliersOf(samples.map(({ requestsPerSecond }) => requestsPerSecond));
  return samples.map((sample, index) => ({ ...sample, outlier: marked[index] ?? false }));
}

function sampleOf(record: RunRecord, window: number): Sample {
  const measured = record.windows[window];
  if (measured === undefined) throw new RangeError(`${record.id} has no window ${window}`);
  const { requests, durationNs, intervals, instructions } = measured;
  const latency = decodeHistogram(measured.latency);
  const kept = dropWarmup(intervals);
  const useKept = intervals.length > 0 && kept.durationNs > 0;
  const requestsPerSecond = perSecond(
    useKept ? kept.requests : requests,
    useKept ? kept.durationNs : durationNs,
  );
  const cpuNs = measured.serverCpuNs === null ? null : measured.serverCpuNs + (measured.softirqNs ?? 0);
  return {
    run: record.id,
    boot: record.boot,
    process: record.process,
    window,
    requestsPerSecond,
    cpusUsed: cpuNs === null ? null : cpuNs / durationNs,
    // CPU time is counted over the whole window, so the requests must be too.
    requestsPerSecondPerCpu: cpuNs === null || cpuNs === 0 ? null : perSecond(requests, cpuNs),
    p50Ns: percentile(latency, fractions.p50Ns) ?? null,
    p99Ns: percentile(latency, fractions.p99Ns) ?? null,
    p999Ns: percentile(latency, fractions.p999Ns) ?? null,
    latencies: countOf(latency),
    instructionsPerRequest: instructions === null || requests === 0 ? null : instructions / requests,
    generatorBusy: measured.generatorBusy,
    applicationBusy: measured.applicationBusy,
    droppedIntervals: kept.dropped,
    steady: kept.steady,
    outlier: false,
    errors: Object.values(measured.errors).reduce((sum, n) => sum + n, 0),
  };
}

/** CPUs a point used, on average of its samples; null where nobody counted. */
export const cpusUsed = (point: Point): number | null => sampleMean(point, 'cpusUsed');

/** How busy a point's application was, on average of its samples, 0 to 1; null where nobody counted. */
export const applicationBusy = (point: Point): number | null => sampleMean(point, 'applicationBusy');

function sampleMean({ samples }: Point, key: 'cpusUsed' | 'applicationBusy'): number | null {
  const values = samples.flatMap((sample) => sample[key] ?? []);
  if (values.length === 0) return null;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

const perSecond = (requests: number, ns: number): number => (requests * 1e9) / ns;

/** A metric of each sample, with its place; samples that lack it are left out. */
export function placed(
  samples: readonly Sample[],
  metric: (sample: Sample) => number | null,
): readonly Placed<number>[] {
  return samples.flatMap((sample) => {
    const value = metric(sample);
    const { boot, process, window } = sample;
    return value === null ? [] : [{ boot, process, window, value }];
  });
}

/** Percentiles of all latencies of a point, merged. */
export function latencyFigures(
  records: readonly RunRecord[],
  random: Random,
): Readonly<Record<PercentileName, Figure | null>> {
  const histograms: Placed<Histogram>[] = records.flatMap(({ boot, process, windows }) =>
    windows.map(({ latency }, window) => ({ boot, process, window, value: decodeHistogram(latency) })),
  );
  return {
    p50Ns: percentileFigure(histograms, fractions.p50Ns, random),
    p99Ns: percentileFigure(histograms, fractions.p99Ns, random),
    p999Ns: percentileFigure(histograms, fractions.p999Ns, random),
  };
}
