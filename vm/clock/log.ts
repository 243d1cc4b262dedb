import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { FastioError, errnoOf } from '../errors.js';

const count = z.int().min(0);
const address = z.string().regex(/^0x[0-9a-f]+$/);

const Vcpu = z.strictObject({
  executedNs: count.describe('Instructions and their costs, in ns of this vCPU.'),
  spunNs: count.describe('Skipped in YIELD and WFE: busy, as an operating system counts.'),
  lineNs: count.describe('The part of executedNs that went to line transfers.'),
  lineTransfers: count,
  userInstructions: count,
  kernelInstructions: count,
  systemCalls: count,
  exceptionReturns: count,
  atomics: count,
  ipis: count,
  sleeps: count.describe('Times it executed WFI with nothing to do.'),
});

const Transfers = {
  seenAt: address.describe('Virtual address used last.'),
  reads: count,
  writes: count,
};

const CodeTime = z.strictObject({
  vcpu: count,
  pc: address,
  ns: count.describe('Executed in the block that begins here, line transfers left out.'),
  transfers: count.describe('Lines that came for the instruction here.'),
});

const Host = z.strictObject({
  wallSeconds: z.number().min(0),
  cpuSeconds: z.number().min(0),
  idleMoves: count,
});

const Span = {
  startNs: count,
  endNs: count,
  quantumNs: count,
  rounds: count,
  slices: count,
  vcpus: z.array(Vcpu),
  host: Host.describe('The only part that differs between equal runs.'),
};

const Line = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('start'), qemu: z.string(), vcpus: count, arguments: z.string() }),
  z.strictObject({
    kind: z.literal('window'),
    ...Span,
    index: z.int().min(1),
    lines: z.array(z.strictObject({ physical: address, ...Transfers })),
    sites: z.array(z.strictObject({ pc: address, ...Transfers })),
    uncountedTransfers: count.describe('Of lines or instructions beyond the tables.'),
    profile: z.array(CodeTime).optional(),
    unprofiledNs: count.optional().describe('Of code beyond the table.'),
  }),
  z.strictObject({ kind: z.literal('end'), ...Span }),
]);

type LogLine = z.infer<typeof Line>;
/** What happened between a guest's two marks; everything but `host` is a function of guest and seed. */
export type ClockWindow = Extract<LogLine, { kind: 'window' }>;
export type VcpuCounts = z.infer<typeof Vcpu>;

/** What the plugin wrote. */
export interface ClockLog {
  /** QEMU's version as the plugin found it, and the plugin's arguments. */
  readonly start: Extract<LogLine, { kind: 'start' }>;
  readonly windows: readonly ClockWindow[];
  /** Totals since boot; absent while the guest runs, or when QEMU was killed. */
  readonly end: Extract<LogLine, { kind: 'end' }> | undefined;
}

/**
 * Reads the plugin's statistics; a last line that is still being written is left out.
 * @throws FastioError INPUT_INVALID naming file and line; QEMU_START when the plugin wrote nothing.
 */
export async function readClockLog(file: string): Promise<ClockLog> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  });
  return parseClockLog(file, text);
}

export function parseClockLog(file: string, text: string): ClockLog {
  const lines = text
    .split('\n')
    .slice(0, -1)
    .map((line, index) => parseLine(file, index + 1, line));
  const start = lines.find((line) => line.kind === 'start');
  if (start === undefined) {
    throw new FastioError(
      'QEMU_START',
      `${file}: the virtual clock wrote nothing`,
      'Read the guest’s qemu.log.',
    );
  }
  return {
    start,
    windows: lines.filter((line) => line.kind === 'window'),
    end: lines.find((line) => line.kind === 'end'),
  };
}

function parseLine(file: string, number: number, text: string): LogLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid(file, number, 'found text that is not JSON, expected an object');
  }
  const result = Line.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw invalid(file, number, `${issue?.path.map(String).join('.') ?? ''}: ${issue?.message ?? 'invalid'}`);
}

function invalid(file: string, number: number, message: string): FastioError {
  return new FastioError('INPUT_INVALID', `${file}:${number} ${message}`, 'Run the measurement again.');
}

/** ns a vCPU was busy in a window, spinning included, as an operating system would count it. */
export function busyNs({ executedNs, spunNs }: VcpuCounts): number {
  return executedNs + spunNs;
}

/** Simulated seconds per second of the host's clock. */
export function virtualPerWall({
  startNs,
  endNs,
  host,
}: Pick<ClockWindow, 'startNs' | 'endNs' | 'host'>): number {
  return (endNs - startNs) / 1e9 / host.wallSeconds;
}

/** A log without the host's part: equal for equal runs, byte for byte once printed. */
export function withoutHost({ start, windows }: ClockLog): unknown {
  const guestOnly = (window: ClockWindow): unknown =>
    Object.fromEntries(Object.entries(window).filter(([key]) => key !== 'host'));
  return { start, windows: windows.map(guestOnly) };
}
