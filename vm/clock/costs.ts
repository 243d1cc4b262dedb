import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isMap, isNode, isPair, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import { z } from 'zod';
import { FastioError } from '../errors.js';
import { projectRoot } from '../paths.js';

/** The plugin refuses more; see vm/clock/plugin/options.c. */
const costMaxNs = 100_000;

const Cost = z.strictObject({
  ns: z.number().min(0).max(costMaxNs),
  source: z.string().min(1).describe('Where the number is from, or why it is assumed.'),
});

const CostProfile = z.strictObject({
  purpose: z.string().min(20),
  cpu: z.enum(['neoverse-n1', 'cortex-a72', 'cortex-a57']).describe("QEMU's CPU model."),
  scale: z.number().positive().max(1_000).describe('Multiplies every cost.'),
  lines: z.enum(['ordered', 'all']).describe('Which accesses can cost a line transfer.'),
  costs: z.strictObject({
    instruction: Cost.extend({ ns: z.number().min(0.01).max(costMaxNs) }),
    svc: Cost,
    eret: Cost,
    atomic: Cost,
    line: Cost,
    wfi: Cost,
    ipi: Cost,
  }),
});

const CostFile = z.strictObject({ profiles: z.record(z.string().regex(/^[a-z0-9-]{1,32}$/), CostProfile) });

/** What things cost in the simulated machine. */
export type CostProfile = z.infer<typeof CostProfile>;
export type CostName = keyof CostProfile['costs'];

export const defaultCostFile: string = join(projectRoot, 'vm/clock/costs.yaml');

/** The plugin's name for each cost; see vm/clock/plugin/options.c. */
const argumentNames: Readonly<Record<CostName, string>> = {
  instruction: 'insn',
  svc: 'svc',
  eret: 'eret',
  atomic: 'atomic',
  line: 'line',
  wfi: 'wfi',
  ipi: 'ipi',
};

/**
 * Reads one profile of a cost model.
 * @throws FastioError INPUT_INVALID naming file, line, what was found and what was expected; USAGE for a name that
 * the file does not have.
 */
export async function readCostProfile(name: string, file: string = defaultCostFile): Promise<CostProfile> {
  const { profiles } = parseCosts(file, await readFile(file, 'utf8'));
  const profile = profiles[name];
  if (profile !== undefined) return profile;
  throw new FastioError(
    'USAGE',
    `${file}: found no cost profile "${name}", expected one of ${Object.keys(profiles).join(', ')}`,
    'Name one of those, or add yours to the file.',
  );
}

/** Checks the text of a cost file. @throws FastioError INPUT_INVALID. */
export function parseCosts(file: string, text: string): z.infer<typeof CostFile> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, strict: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const { line } = lines.linePos(problem.pos[0]);
    throw invalid(`${file}:${line} ${problem.message.split('\n')[0] ?? ''}`);
  }
  const result = CostFile.safeParse(document.toJS());
  if (result.success) return result.data;
  const faults = result.error.issues
    .map((issue) => ({ line: lineOf(document, lines, issue.path), text: describe(issue, document) }))
    .sort((a, b) => a.line - b.line)
    .map((fault) => `${file}:${fault.line} ${fault.text}`);
  throw invalid(faults[0] ?? file, faults.slice(1));
}

/** The plugin's arguments for a profile, scale applied. @param ramMiB the guest's memory. */
export function costArguments(profile: CostProfile, ramMiB: number): readonly string[] {
  const costs = Object.entries(profile.costs) as [CostName, { ns: number }][];
  const chargesLines = profile.costs.line.ns > 0;
  return [
    ...costs
      .filter(([, { ns }]) => ns > 0)
      .map(([name, { ns }]) => `${argumentNames[name]}=${Number((ns * profile.scale).toFixed(4))}`),
    ...(chargesLines ? [`lines=${profile.lines}`, `ram=${ramMiB}`] : []),
  ];
}

/** One sentence with the model's numbers, for reports. */
export function describeCosts(name: string, { costs, scale, lines, cpu }: CostProfile): string {
  const numbers = (Object.entries(costs) as [CostName, { ns: number }][])
    .filter(([, { ns }]) => ns > 0)
    .map(([cost, { ns }]) => `${cost} ${ns} ns${cost === 'line' ? ` (${lines} accesses)` : ''}`);
  const scaled = scale === 1 ? '' : `, all times ${scale}`;
  return `profile ${name}: ${numbers.join(', ')}${scaled}; CPU model ${cpu}`;
}

type Path = readonly PropertyKey[];

function describe(issue: z.core.$ZodIssue, document: Document): string {
  const key = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    return `${key}: found unknown key ${issue.keys.join(', ')}, expected none`;
  }
  const value: unknown = document.getIn(issue.path);
  const found = value === undefined ? 'nothing' : isMap(value) ? 'a map' : JSON.stringify(value);
  return `${key}: found ${found}, expected ${issue.message.replace(/^.*expected /i, '').replace(/, received.*$/, '')}`;
}

/** The line of the key at `path`, or of the nearest key above it. */
function lineOf(document: Document, lines: LineCounter, path: Path): number {
  for (let length = path.length; length > 0; length -= 1) {
    const parent: unknown =
      length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    const name = String(path[length - 1]);
    const pair = isMap(parent)
      ? parent.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === name)
      : undefined;
    const offset = isNode(pair?.key) ? pair.key.range?.[0] : undefined;
    if (offset !== undefined) return lines.linePos(offset).line;
  }
  return 1;
}

function invalid(message: string, detail: readonly string[] = []): FastioError {
  return new FastioError('INPUT_INVALID', message, 'Correct that line of the cost file.', { detail });
}
