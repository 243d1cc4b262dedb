import { z } from 'zod';

/** Name of the manifest in a bundle. */
export const manifestName = 'manifest.json';
/** Raised when a reader of an older one would misread a newer one. */
export const manifestVersion = 1;

export const Manifest = z.strictObject({
  version: z.literal(manifestVersion),
  tool: z.strictObject({ name: z.string(), version: z.string() }),
  resultsVersion: z.number().int(),
  resultsHash: z.string().describe('sha256 of the results without host times.'),
  rerun: z.string().describe('The command that measures the same once more.'),
  files: z.array(z.strictObject({ path: z.string(), bytes: z.number().int(), sha256: z.string() })),
});
export type Manifest = z.infer<typeof Manifest>;
