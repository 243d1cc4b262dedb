import { z } from 'zod';
import { FastioError } from '../../vm/errors.js';
import { decodeHistogram } from '../statistics/histogram.js';
import type { Measurement } from './record.js';

/** Version of the generator's JSON that is understood. */
const loadVersion = 1;

const count = z.number().int().min(0);

/** What is read of the generator's JSON (echo/README.md); it may hold more. */
const LoadOutput = z.object({
  schema: z.literal('fastio-echo-load'),
  version: z.literal(loadVersion),
  window: z.object({ durationNs: z.number().positive(), requests: count }),
  intervals: z.array(z.object({ durationNs: z.number().min(0), requests: count })),
  latency: z.object({ maxNs: count, buckets: z.array(count) }),
  errors: z.record(z.string(), count),
  generator: z.object({ busiestShare: z.number().min(0).nullable() }),
  accounting: z
    .object({
      serverCpuNs: z.number().min(0).nullable(),
      softirqNs: z.number().min(0).nullable(),
      threads: z.array(z.object({ name: z.string(), cpuNs: z.number().min(0) })),
    })
    .nullable(),
});

/**
 * Reads what a generator printed.
 * @param what The window, for messages.
 * @throws FastioError GUEST_COMMAND when it is not what the format says.
 */
export function parseLoadOutput(format: 'fastio-load', stdout: string, what: string): Measurement {
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
  const { window, intervals, latency, errors, generator, accounting } = parsed.data;
  return {
    requests: window.requests,
    durationNs: window.durationNs,
    intervals,
    latency: decodeHistogram(latency.buckets, latency.maxNs).map(([value, n]) => [value, n]),
    errors: Object.fromEntries(Object.entries(errors).filter(([, n]) => n > 0)),
    serverCpuNs: accounting?.serverCpuNs ?? null,
    serverThreads: accounting?.threads ?? [],
    softirqNs: accounting?.softirqNs ?? null,
    generatorBusy: generator.busiestShare,
    instructions: null,
  };
}

function unreadable(format: string, what: string, found: string): FastioError {
  return new FastioError(
    'GUEST_COMMAND',
    `${what}: the generator printed ${found}, expected the format ${format}`,
    'Let load.format and load.run of the suite agree.',
  );
}
