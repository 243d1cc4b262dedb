/**
 * What the kernel module costs in instructions per request, beside epoll and io_uring: prints a table, and exits 1 when a
 * target is missed. kmod/tests/bench/bench.h says how it is measured.
 *
 *   npm run bench:kmod
 */
import { loadModule } from '../../toolchain/load.js';
import { buildModule } from '../../toolchain/targets.js';
import { join } from 'node:path';
import { buildKmodTests } from '../guest/kmod-build.js';
import { bootQemu } from '../../vm/machine/qemu-vm.js';
import { projectRoot } from '../../vm/paths.js';
import type { Report } from '../../vm/progress.js';
import type { VmSpec } from '../../vm/vm.js';
import { z } from 'zod';

/** One vCPU, one instruction per nanosecond, nothing random: runs differ by less than what is worth a decimal. */
const spec: VmSpec = {
  arch: 'arm64',
  kernel: '6.12',
  cpus: 1,
  memoryMiB: 512,
  qemu: 'locked',
  forwards: [],
  kernelArgs: ['nokaslr'],
  qemuArgs: [
    ...['-accel', 'tcg,thread=single', '-icount', 'shift=0,sleep=off', '-seed', '1'],
    ...['-cpu', 'neoverse-n1'],
  ],
};

const Line = z.strictObject({
  name: z.string(),
  connections: z.int().optional(),
  batch: z.int().optional(),
  count: z.int().positive(),
  processNs: z.int().nonnegative(),
  applicationNs: z.int().nonnegative().optional(),
  workerNs: z.int().nonnegative().optional(),
});
type Line = z.infer<typeof Line>;

/** A measurement as the table shows it, in instructions per operation. */
interface Row {
  readonly name: string;
  readonly application: number;
  /** The worker's own path, looking for work not included; 0 when there is no worker. */
  readonly worker: number;
  readonly total: number;
  readonly baseline: string | undefined;
}

interface Target {
  readonly row: string;
  readonly of: 'worker' | 'total';
  /** Instructions, or the name of the row whose total is the limit. */
  readonly limit: number | string;
}

/** Fixed before the module was measured. */
const targets: readonly Target[] = [
  { row: 'fastio worker, fused, 25 connections', of: 'worker', limit: 12_400 },
  { row: 'fastio inline, fused, 25 connections', of: 'total', limit: 13_100 },
  { row: 'fastio inline, fused, 1 connection', of: 'total', limit: 'epoll, 1 connection' },
  { row: 'nop sleeping worker, batch 128', of: 'total', limit: 150 },
  { row: 'nop inline, batch 128', of: 'total', limit: 150 },
];

const report: Report = (event) => {
  if (event.kind === 'stage') process.stderr.write(`==> ${event.name} ${event.detail ?? ''}\n`);
};

async function measure(): Promise<readonly Line[]> {
  const options = { report, signal: new AbortController().signal };
  const module = await buildModule(
    { directory: join(projectRoot, 'kmod'), name: 'fastio', arch: spec.arch, kernel: spec.kernel },
    options,
  );
  const programs = await buildKmodTests(spec.arch, options);
  await using vm = await bootQemu(spec, {
    name: `bench-${process.pid}`,
    accel: 'tcg',
    requireAccel: false,
    ...options,
  });
  await loadModule(vm, module.path, { ...options, kernel: spec.kernel });
  await vm.push(join(programs, 'bench-icount'), '/run/bench-icount', options);
  const { status, stdout, stderr } = await vm.exec(['/run/bench-icount'], { timeoutMs: 600_000 });
  if (status !== 0) throw new Error(`bench-icount ended with status ${status}: ${stdout}${stderr}`);
  return stdout
    .trim()
    .split('\n')
    .map((line) => Line.parse(JSON.parse(line)));
}

function labelOf({ name, connections, batch }: Line): string {
  if (connections !== undefined) return `${name}, ${connections} connection${connections === 1 ? '' : 's'}`;
  return batch === undefined ? name : `${name}, batch ${batch}`;
}

function perOperation(line: Line): Row {
  const { name, connections, count, processNs, applicationNs = 0, workerNs = 0 } = line;
  const worker = workerNs / count;
  const application = applicationNs / count;
  return {
    name: labelOf(line),
    application,
    worker,
    // Looking for work costs a polling worker's core, but no request.
    total: workerNs === 0 ? processNs / count : application + worker,
    baseline: connections === undefined || name === 'epoll' ? undefined : labelOf({ ...line, name: 'epoll' }),
  };
}

function verdict(row: Row, rows: readonly Row[]): { readonly words: string; readonly missed: boolean } {
  const target = targets.find(({ row: name }) => name === row.name);
  if (target === undefined) return { words: '', missed: false };
  const limit =
    typeof target.limit === 'number'
      ? target.limit
      : (rows.find(({ name }) => name === target.limit)?.total ?? Number.NaN);
  const missed = !(row[target.of] <= limit);
  return { words: `${target.of} <= ${limit.toFixed(0)}: ${missed ? 'FAIL' : 'PASS'}`, missed };
}

function tableOf(rows: readonly Row[]): { readonly text: string; readonly missed: boolean } {
  const cells = [['instructions per operation', 'application', 'worker', 'total', 'to epoll', 'target']];
  let missed = false;
  for (const row of rows) {
    const baseline = rows.find(({ name }) => name === row.baseline);
    const judged = verdict(row, rows);
    missed ||= judged.missed;
    cells.push([
      row.name,
      row.application === 0 ? '' : row.application.toFixed(0),
      row.worker === 0 ? '' : row.worker.toFixed(0),
      row.total.toFixed(0),
      baseline === undefined ? '' : (row.total / baseline.total).toFixed(3),
      judged.words,
    ]);
  }
  const widths =
    cells[0]?.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0))) ?? [];
  const text = cells
    .map((row) =>
      row
        .map((cell, i) => (i === 0 || i === 5 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
  return { text, missed };
}

const lines = await measure();
const calibration = lines.find(({ name }) => name === 'calibration');
if (calibration === undefined) throw new Error('bench-icount printed no calibration');
const nsPerInstruction = calibration.processNs / calibration.count;
if (Math.abs(nsPerInstruction - 1) > 0.01) {
  throw new Error(`an instruction takes ${nsPerInstruction.toFixed(4)} ns of guest time, expected 1 ± 0.01`);
}
const { text, missed } = tableOf(lines.filter((line) => line !== calibration).map(perOperation));
process.stdout.write(`${text}\n`);
if (missed) process.exitCode = 1;
