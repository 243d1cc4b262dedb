import { z } from 'zod';
import { Name, limits } from './suite.js';

const Condition = {
  server: Name,
  connections: z.number().int().min(1).max(limits.connections),
  messageBytes: z.number().int().min(1).max(limits.messageBytes),
  request: Name.optional().describe('Kind of request, in suites that have load.requests.'),
};

const workers = z.number().int().min(1).max(limits.workers);

const Comparable = z
  .strictObject({
    wall: z
      .strictObject({
        cpuModel: z
          .string()
          .optional()
          .describe('Regular expression for the CPU model the figure can be judged on.'),
      })
      .optional(),
    virtual: z.strictObject({ costProfile: z.string().optional() }).optional(),
  })
  .refine(({ wall, virtual }) => wall !== undefined || virtual !== undefined, {
    message: 'found an empty map, expected wall, virtual or both',
  })
  .describe('Where the figure can be judged. Elsewhere the verdict is NOT COMPARABLE, never FAIL.');

/** `published`: somebody else's figure, to be reproduced; `target`: one this project set itself. */
export const claimKinds = ['published', 'target'] as const;
export const directions = ['at-least', 'at-most', 'within'] as const;

const Common = {
  kind: z
    .enum(claimKinds)
    .default('published')
    .describe('published: a figure of others, to be reproduced; target: one that this project set itself.'),
  id: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,63}$/),
  title: z.string().min(10).max(200),
  suite: Name.describe('Name of the suite that measures it, as in suites/NAME.yaml.'),
  published: z.number().positive().describe('The published figure, or the target.'),
  tolerance: z
    .number()
    .min(0)
    .max(0.9)
    .describe('Fraction of the published value; fixed before anything was measured.'),
  direction: z
    .enum(directions)
    .describe(
      'at-least: not below published × (1 − tolerance); at-most: not above published × (1 + tolerance); within: both.',
    ),
  source: z.string().min(5).max(300),
  note: z.string().max(500).optional(),
  comparable: Comparable,
};

const metrics = [
  'requestsPerSecond',
  'ratioToBaseline',
  'requestsPerSecondPerCpu',
  'perCpuRatioToBaseline',
  'p99RatioToBaseline',
] as const;

/** A figure of one point. */
const PointClaim = z.strictObject({
  ...Common,
  metric: z.enum(metrics),
  point: z.strictObject({ ...Condition, workers }),
});

/** A figure of one point beside that of another under the same conditions. */
const PairClaim = z.strictObject({
  ...Common,
  metric: z.enum(['ratioToPoint', 'perCpuRatioToPoint']),
  point: z.strictObject({ ...Condition, workers }),
  against: z
    .strictObject({ server: Name, workers })
    .describe('The other point; its connections and message are the same.'),
});

/** The slope of a straight line through the ratios to the baseline, per worker. */
const SlopeClaim = z.strictObject({
  ...Common,
  metric: z.literal('slopePerWorker'),
  points: z.strictObject({
    ...Condition,
    workers: z.array(workers).min(5).max(64).describe('At least 5, or a line says nothing.'),
  }),
  minR2: z.number().min(0).max(1).describe('Share of the variance the line must explain.'),
});

/**
 * What each further worker adds, as a fraction of what the first number of them carries per worker; the least of the
 * steps that begin while the application's own thread has time left.
 */
const GrowthClaim = z.strictObject({
  ...Common,
  metric: z.literal('growthUntilBusy'),
  points: z.strictObject({
    ...Condition,
    workers: z.array(workers).min(2).max(64).describe('Each step from one number to the next is looked at.'),
  }),
  busyFrom: z
    .number()
    .min(0.5)
    .max(1)
    .describe('Share of the time from which on the application is the limit: steps from there do not count.'),
});

export const Claim = z.discriminatedUnion('metric', [PointClaim, PairClaim, SlopeClaim, GrowthClaim]);
export type Claim = z.infer<typeof Claim>;

export const ClaimsFile = z
  .strictObject({ $schema: z.string().optional(), claims: z.array(Claim).min(1).max(500) })
  .superRefine(({ claims }, context) => {
    const seen = new Map<string, number>();
    claims.forEach((claim, index) => {
      const { id } = claim;
      const first = seen.get(id);
      if (first !== undefined) {
        const message = `found "${id}" again (it is claims[${first}]), expected an id of its own`;
        context.addIssue({ code: 'custom', path: ['claims', index, 'id'], message });
      }
      seen.set(id, first ?? index);
      if (!('points' in claim)) return;
      const { workers: counts } = claim.points;
      const at = counts.findIndex((count, place) => place > 0 && count <= (counts[place - 1] ?? 0));
      if (at < 0) return;
      const message = `found ${counts[at]} after ${counts[at - 1]}, expected numbers of workers that grow`;
      context.addIssue({ code: 'custom', path: ['claims', index, 'points', 'workers', at], message });
    });
  });
export type ClaimsFile = z.infer<typeof ClaimsFile>;
export type ClaimMetric = Claim['metric'];
