import { z } from 'zod';
import type { KernelReport } from '../../vm/vm.js';
import type { PlannedRun } from '../plan/planner.js';

/** Raised with the form of raw/*.json. */
export const recordVersion = 2;

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
  applicationBusy: z
    .number()
    .min(0)
    .nullable()
    .default(null)
    .describe('Share of time that the application’s own CPUs executed, polling left out, where it is known.'),
  instructions: count.nullable().describe('Executed on the server’s CPUs, where the clock counts them.'),
  lineTransfers: count
    .nullable()
    .describe('Cache lines the server’s CPUs took from others, where the clock counts them.'),
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
  host: z.strictObject({
    startedAt: z.string(),
    seconds: z.number().describe('Wall-clock seconds, boot included.'),
    alone: z
      .boolean()
      .default(false)
      .describe('Measured again in a guest of its own, after it or another failed.'),
    windows: z
      .strictObject({ virtualSeconds: ns, wallSeconds: ns, cpuSeconds: ns })
      .nullable()
      .describe('What simulating the windows took; null by the wall clock.'),
  }),
});
export type RunRecord = z.infer<typeof RunRecord>;

/** What is kept of a run's last lines when it failed. */
export const failureLines = 60;

/** A run's record, once it is over. */
export function recordOf(
  run: PlannedRun,
  end: Pick<RunRecord, 'failure' | 'windows' | 'accel'> & {
    readonly startedAt: Date;
    readonly seconds: number;
    readonly alone?: boolean;
    readonly simulated?: RunRecord['host']['windows'];
  },
): RunRecord {
  const { failure, windows, accel, startedAt, seconds, alone = false, simulated } = end;
  return {
    version: recordVersion,
    id: run.id,
    point: run.point.id,
    replica: run.replica,
    boot: run.boot,
    process: run.process,
    status: failure === null ? 'ok' : 'failed',
    failure,
    windows,
    accel,
    oversubscribed: run.point.placement.oversubscribed,
    host: { startedAt: startedAt.toISOString(), seconds, alone, windows: simulated ?? null },
  };
}

/** A kernel that complained fails the run, whatever the figures look like. */
export function kernelFailure({
  severity,
  headline,
  lines,
}: KernelReport): NonNullable<RunRecord['failure']> {
  return {
    code: `GUEST_${severity.toUpperCase()}`,
    message: `the guest kernel reported: ${headline}`,
    kernel: true,
    log: [headline, ...lines].slice(0, failureLines),
  };
}
