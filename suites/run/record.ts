import { z } from 'zod';

/** Raised with the form of raw/*.json. */
export const recordVersion = 1;

const count = z.number().int().min(0);
const ns = z.number().min(0);

/** What one window of load yielded, whichever generator made it. */
export const Measurement = z.strictObject({
  requests: count,
  durationNs: z.number().positive().describe('Measured on the guest’s monotonic clock.'),
  intervals: z.array(z.strictObject({ durationNs: ns, requests: count })),
  latency: z
    .strictObject({ maxNs: count, buckets: z.array(count) })
    .describe('The generator’s own lossless encoding: distance from the previous bucket and count, in turn.'),
  errors: z.record(z.string(), count).describe('By kind; empty when there were none.'),
  serverCpuNs: ns.nullable().describe('CPU time of all threads of the server, kernel workers included.'),
  serverThreads: z.array(z.strictObject({ name: z.string(), cpuNs: ns })),
  softirqNs: ns
    .nullable()
    .describe(
      'Time of the softirq threads of the server’s CPUs; softirqs in passing are in the threads’ own.',
    ),
  stealShare: z.number().min(0).nullable().describe('CPU time the hypervisor gave to others ÷ all of it.'),
  rateKept: z.boolean().nullable().describe('Open loop: whether the offered rate was carried.'),
  generatorBusy: z.number().min(0).nullable(),
  instructions: count.nullable(),
});
export type Measurement = z.infer<typeof Measurement>;

export const RunRecord = z.strictObject({
  version: z.literal(recordVersion),
  id: z.string(),
  point: z.string(),
  replica: z.enum(['main', 'aa']),
  boot: count,
  process: count,
  status: z.enum(['ok', 'failed']),
  failure: z
    .strictObject({ code: z.string(), message: z.string(), kernel: z.boolean(), log: z.array(z.string()) })
    .nullable(),
  windows: z.array(Measurement),
  accel: z.string(),
  oversubscribed: z.boolean(),
  host: z.strictObject({ startedAt: z.string(), seconds: z.number() }),
});
export type RunRecord = z.infer<typeof RunRecord>;
