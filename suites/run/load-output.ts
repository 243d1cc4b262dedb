import { z } from 'zod';
import { FastioError } from '../../vm/errors.js';
import { decodeHistogram } from '../statistics/histogram.js';
import type { Measurement } from './record.js';

/** Version of the generator's JSON that is understood. */
const loadVersion = 1;

const count = z.number().int().min(0);

/** What is read of the generator's JSON (echo/README.md); it may hold more. */
const LoadOutput = z.object({
  schema: z.literal('fastio-load'),
  version: z.literal(loadVersion),
  window: z.object({ elapsedNs: z.number().positive() }),
  requests: count,
  latency: z.object({ maxNs: count, buckets: z.array(count) }),
  intervals: z.array(z.object({ startNs: count, endNs: count, requests: count })),
  openLoop: z.object({ kept: z.boolean() }).optional(),
  generator: z.object({ busiestShare: z.number().min(0) }),
  accounting: z
    .object({
      server: z
        .object({
          elapsedNs: z.number().positive(),
          cpuNs: count,
          threads: z.array(z.object({ name: z.string(), cpuNs: count })),
        })
        .nullable(),
      softirqThreads: z.array(z.object({ name: z.string(), cpuNs: count })),
      cpus: z.array(z.object({ stealNs: z.number() })),
    })
    .nullable(),
  errors: z.object({ total: count, first: z.string().nullable() }).catchall(count),
});

export interface LoadContext {
  /** The window, for messages. */
  readonly what: string;
  /** Softirq threads of these CPUs work for the server. */
  readonly serverCpus: readonly number[];
}

/**
 * Reads what a generator printed.
 * @throws FastioError GUEST_COMMAND when it is not what the format says.
 */
export function parseLoadOutput(
  format: 'fastio-load',
  stdout: string,
  { what, serverCpus }: LoadContext,
): Measurement {
  let value: unknown;
  try {
    value = JSON.parse(stdout);
  } catch {
    throw unreadable(format, what, `text that is not JSON: ${JSON.stringify(stdout.slice(0, 80))}`);
  }
  const parsed = LoadOutput.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw unreadable(format, what, `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'something else'}`);
  }
  try {
    decodeHistogram(parsed.data.latency);
  } catch (error) {
    throw unreadable(format, what, `latency.buckets: ${error instanceof Error ? error.message : ''}`);
  }
  const { window, requests, intervals, latency, errors, generator, accounting, openLoop } = parsed.data;
  const durationNs = window.elapsedNs;
  const server = accounting?.server ?? null;
  // Threads are sampled a little before and after the window; what they used is scaled to it.
  const scale = server === null ? 1 : durationNs / server.elapsedNs;
  const steal = accounting?.cpus.reduce((sum, { stealNs }) => sum + stealNs, 0) ?? 0;
  const wanted = new Set(serverCpus.map((cpu) => `ksoftirqd/${cpu}`));
  const softirq = accounting?.softirqThreads.filter(({ name }) => wanted.has(name)) ?? [];
  return {
    requests,
    durationNs,
    intervals: intervals.map((one) => ({ durationNs: one.endNs - one.startNs, requests: one.requests })),
    latency,
    errors: Object.fromEntries(
      Object.entries(errors).flatMap(([kind, n]) =>
        kind !== 'total' && typeof n === 'number' && n > 0 ? [[kind, n]] : [],
      ),
    ),
    serverCpuNs: server === null ? null : server.cpuNs * scale,
    serverThreads: (server?.threads ?? []).map(({ name, cpuNs }) => ({ name, cpuNs: cpuNs * scale })),
    softirqNs: accounting === null ? null : softirq.reduce((sum, { cpuNs }) => sum + cpuNs, 0) * scale,
    stealShare: accounting === null ? null : steal / (durationNs * Math.max(1, accounting.cpus.length)),
    generatorBusy: generator.busiestShare,
    rateKept: openLoop?.kept ?? null,
    applicationBusy: null,
    instructions: null,
    lineTransfers: null,
  };
}

/** Characters of a line of the generator's that go to the log. */
const maxLogLine = 1_000;

/** What a run's log says of one call of the generator. Its JSON is in the raw record; the first figures are enough here. */
export function loadLog(
  window: number,
  argv: readonly string[],
  stdout: string,
  stderr: string,
): readonly string[] {
  const short = (line: string): string => (line.length > maxLogLine ? `${line.slice(0, maxLogLine)}…` : line);
  return [
    `==> window ${window}: ${argv.join(' ')}`,
    ...stdout.trimEnd().split('\n').map(short),
    ...(stderr === '' ? [] : stderr.trimEnd().split('\n')),
  ];
}

/** The error for a generator that did not end well. */
export function loadFailed(status: number, stdout: string, stderr: string): FastioError {
  return new FastioError(
    'GUEST_COMMAND',
    `the load generator ended with status ${status}: ${lastLine(stderr) ?? lastLine(stdout) ?? 'no message'}`,
    'Read the log of the run.',
    { detail: stderr.trimEnd().split('\n').slice(-20) },
  );
}

function lastLine(text: string): string | undefined {
  const line = text.trimEnd().split('\n').at(-1);
  return line === '' ? undefined : line;
}

function unreadable(format: string, what: string, found: string): FastioError {
  return new FastioError(
    'GUEST_COMMAND',
    `${what}: the generator printed ${found}, expected the format ${format}`,
    'Let load.format and load.run of the suite agree.',
  );
}
