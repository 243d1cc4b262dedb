import { z } from 'zod';
import { accelerators, architectures, kernels } from '../../vm/vm.js';
import { claimKinds, directions } from './claims.js';
import { clocks, profiles } from './suite.js';

/** Raised when a reader of the old form would misread the new one. */
export const resultsVersion = 1;

const count = z.number().int().min(0);
const nullable = <T extends z.ZodType>(schema: T): z.ZodNullable<T> => schema.nullable();

/** Over what an interval was taken: the highest level of repetition with at least two members. */
export const levels = ['boot', 'process', 'window', 'none'] as const;

export const Figure = z
  .strictObject({
    median: z.number(),
    low: z.number().describe('Lower end of the 95 % bootstrap interval.'),
    high: z.number(),
    n: z.number().int().min(1).describe('Members of the level the interval was taken over.'),
    level: z.enum(levels).describe('"none": a single sample, so the interval says nothing.'),
  })
  .describe('A measured value with its interval.');
export type Figure = z.infer<typeof Figure>;

const Sample = z.strictObject({
  run: z.string().describe('Its raw record is raw/RUN.json.'),
  boot: count,
  process: count,
  window: count,
  requestsPerSecond: z.number(),
  cpusUsed: nullable(z.number()).describe('CPU time of the server and on its behalf ÷ elapsed time.'),
  requestsPerSecondPerCpu: nullable(z.number()),
  p50Ns: nullable(z.number()),
  p99Ns: nullable(z.number()),
  p999Ns: nullable(z.number()),
  latencies: count.describe('How many latencies the percentiles come from.'),
  instructionsPerRequest: nullable(z.number()),
  generatorBusy: nullable(z.number()).describe('Share of time the busiest generator thread was not waiting.'),
  applicationBusy: nullable(z.number())
    .default(null)
    .describe(
      'Share of time the application’s own CPUs executed, polling left out; null where others run there, too.',
    ),
  droppedIntervals: count.describe('Intervals at its start that were still warm-up.'),
  steady: z.boolean().describe('false: no steady stretch was found; all intervals are used.'),
  outlier: z.boolean().describe('Marked by Tukey’s fences; used all the same.'),
  errors: count,
});
export type Sample = z.infer<typeof Sample>;

const Summary = z.strictObject({
  requestsPerSecond: Figure,
  requestsPerSecondPerCpu: nullable(Figure),
  ratioToBaseline: nullable(Figure),
  perCpuRatioToBaseline: nullable(Figure),
  p50Ns: nullable(Figure),
  p99Ns: nullable(Figure),
  p999Ns: nullable(Figure).describe('null when there are fewer than 10,000 latencies.'),
  instructionsPerRequest: nullable(Figure),
});
export type Summary = z.infer<typeof Summary>;

const condition = {
  connections: count,
  messageBytes: count,
  rate: nullable(z.number()).describe('Requests per second sent; null in a closed loop.'),
  request: z.string().optional().describe('Kind of request; absent in suites that have only one.'),
};

/** What points must share to have one baseline, and claims to be about a point. */
export interface ConditionPlace {
  readonly connections: number;
  readonly messageBytes: number;
  readonly rate?: number | null | undefined;
  readonly request?: string | undefined;
}

/** Equal for equal conditions. Without a rate: a closed loop. */
export function conditionKey({ connections, messageBytes, rate, request }: ConditionPlace): string {
  return `c${connections}-b${messageBytes}${request === undefined ? '' : `-${request}`}-${rate ?? 'closed'}`;
}

const Point = z.strictObject({
  id: z.string(),
  suite: z.string(),
  server: z.string(),
  title: z.string(),
  workers: count,
  ...condition,
  loop: z.enum(['closed', 'open']),
  clock: z.enum(clocks),
  accel: z.string(),
  baseline: z.boolean(),
  serverCpus: count.describe('CPUs kept for the server.'),
  loadThreads: count,
  status: z
    .enum(['ok', 'invalid', 'failed', 'pending'])
    .describe('invalid: measured, but by a rule fixed beforehand the figures do not count.'),
  reasons: z.array(z.string()).describe('Why it is failed, invalid or flagged.'),
  comparable: z.boolean().describe('Whether figures may be set beside published ones.'),
  samples: z.array(Sample),
  summary: nullable(Summary),
  errors: count,
});
export type Point = z.infer<typeof Point>;

const Noise = z
  .strictObject({ suite: z.string(), ...condition, ratio: Figure })
  .describe('The baseline measured twice as if it were two contenders: what a ratio of 1 looks like here.');
export type Noise = z.infer<typeof Noise>;

export const verdicts = ['PASS', 'FAIL', 'NOT COMPARABLE'] as const;
export type Verdict = (typeof verdicts)[number];

const ClaimResult = z.strictObject({
  kind: z.enum(claimKinds).default('published'),
  id: z.string(),
  title: z.string(),
  metric: z.string(),
  suite: z.string(),
  server: z.string(),
  workers: z.array(count),
  connections: count,
  messageBytes: count,
  request: z.string().optional(),
  published: z.number(),
  tolerance: z.number(),
  direction: z.enum(directions),
  measured: nullable(z.number()),
  low: nullable(z.number()),
  high: nullable(z.number()),
  noise: nullable(z.strictObject({ low: z.number(), high: z.number() })),
  verdict: z.enum(verdicts),
  reason: z.string(),
  source: z.string(),
});
export type ClaimResult = z.infer<typeof ClaimResult>;

const Failure = z.strictObject({
  run: z.string(),
  point: z.string(),
  boot: count,
  process: count,
  code: z.string(),
  message: z.string(),
  kernel: z.boolean().describe('The guest kernel warned, oopsed, hung or died.'),
  log: z.array(z.string()).describe('The last lines of the server, the generator or the kernel.'),
});
export type Failure = z.infer<typeof Failure>;

const Fingerprint = z.strictObject({
  host: z.record(z.string(), z.union([z.string(), z.number()])),
  guest: z.record(z.string(), z.union([z.string(), z.number()])),
  artifacts: z.record(z.string(), z.string()).describe('sha256 of each program and module measured.'),
});
export type Fingerprint = z.infer<typeof Fingerprint>;

export const Results = z.strictObject({
  $schema: z.string().optional(),
  version: z.literal(resultsVersion),
  tool: z.strictObject({ name: z.string(), version: z.string() }),
  profile: z.enum(profiles),
  clock: z.strictObject({
    name: z.enum(clocks),
    costProfile: nullable(z.string()),
    description: nullable(z.string()),
  }),
  accelAsked: z.enum(accelerators),
  accel: nullable(z.string()).describe('What the guest really ran on; null before the first boot.'),
  accelReason: nullable(z.string()),
  arch: z.enum(architectures),
  kernel: z.enum(kernels),
  seed: z.number().int(),
  shard: nullable(z.strictObject({ index: count, count })).describe('null: the whole.'),
  forced: z.boolean(),
  lockHash: z.string(),
  planHash: z.string().describe('Hash of all that decides what is run and in which order, shards aside.'),
  conf: z.strictObject({ sha256: z.string(), text: z.string() }),
  suites: z.array(
    z.strictObject({ name: z.string(), file: z.string(), sha256: z.string(), purpose: z.string() }),
  ),
  fingerprint: Fingerprint,
  progress: z.strictObject({ runs: count, finished: count, complete: z.boolean(), resumed: z.boolean() }),
  order: z.array(z.string()).describe('Run ids in the order they were planned.'),
  points: z.array(Point),
  noise: z.array(Noise),
  claims: z.array(ClaimResult),
  failures: z.array(Failure),
  host: z
    .strictObject({ startedAt: z.string(), finishedAt: nullable(z.string()), elapsedSeconds: z.number() })
    .describe('Host times: the only part that differs between two virtual-clock runs of one seed.'),
});
export type Results = z.infer<typeof Results>;
