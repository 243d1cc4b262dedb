import { FastioError } from '../../vm/errors.js';
import type { Report } from '../../vm/progress.js';
import type { KernelReport } from '../../vm/vm.js';
import type { PlannedRun } from '../plan/planner.js';
import { pointText, windowOf } from '../plan/points.js';
import { profileOf } from '../schema/suite.js';
import type { CommandOptions } from './commands.js';
import { loadWords, ownDirectory, serverOf, serverWords } from './commands.js';
import type { Bench } from './guest.js';
import { guestConf, guestPath, guestRoot } from './guest.js';
import { loadFailed, loadLog, parseLoadOutput } from './load-output.js';
import { patienceMs } from './patience.js';
import type { Measurement, RunRecord } from './record.js';
import { kernelFailure, recordOf } from './record.js';
import type { GuestServer } from './server.js';
import { startServer } from './server.js';

export interface MeasureOptions extends CommandOptions {
  readonly report: Report;
  readonly signal: AbortSignal;
}

export interface Measured {
  readonly record: RunRecord;
  /** Everything server and generator printed. */
  readonly log: string;
  /** The kernel complained or died: this guest must not measure anything more. */
  readonly spoilt: boolean;
}

/** Ports count up within a boot: a server never meets connections of the one before it. */
const firstPort = 20_000;
const portCount = 10_000;
const readyMs = 15_000;
const stopMs = 10_000;
/** A generator connects, warms up, measures and reports; all but the measuring takes less than this. */
const loadOverheadMs = 30_000;
/** A reply that takes longer is lost. */
const replyMs = 10_000;

/**
 * Starts a point's server, measures its windows, stops it and looks at the kernel log. What goes wrong with the point
 * becomes its record; only what ends the whole run is thrown.
 */
export async function measureRun(
  bench: Bench,
  run: PlannedRun,
  index: number,
  options: MeasureOptions,
): Promise<Measured> {
  const { vm } = bench;
  const log: string[] = [];
  const startedAt = new Date();
  const begun = performance.now();
  const windows: Measurement[] = [];
  let failure: RunRecord['failure'] = null;
  let mark = 0;
  try {
    ({ mark } = await vm.kernelTrouble());
    await measureWindows(bench, run, index, options, windows, log);
  } catch (error) {
    options.signal.throwIfAborted();
    failure = failureOf(error, log);
  }
  const reports = await troubleSince(bench, mark);
  const [trouble] = reports;
  if (trouble !== undefined) failure = kernelFailure(trouble);
  const seconds = (performance.now() - begun) / 1000;
  return {
    record: recordOf(run, { failure, windows, accel: vm.info.accel, startedAt, seconds }),
    log: log.map((line) => `${line}\n`).join(''),
    spoilt: vm.died.aborted || failure?.kernel === true,
  };
}

async function measureWindows(
  bench: Bench,
  run: PlannedRun,
  index: number,
  options: MeasureOptions,
  windows: Measurement[],
  log: string[],
): Promise<void> {
  const { loaded, profile } = options;
  const server = await startOf(bench, run, index, options);
  try {
    for (let window = 0; window < profileOf(loaded.suite, profile).windows; window += 1) {
      windows.push(await measureWindow(bench, run, server, window, options, log));
    }
    await server.stop();
  } catch (error) {
    await server.kill();
    throw error;
  } finally {
    log.push('==> server', ...server.log());
  }
}

function startOf(
  { vm }: Bench,
  run: PlannedRun,
  index: number,
  { loaded, signal }: MeasureOptions,
): Promise<GuestServer> {
  const { server, workers } = run.point;
  const port = firstPort + (index % portCount);
  const own = ownDirectory(run, loaded);
  return startServer(vm, {
    name: `${server} x${workers}`,
    argv: serverWords(run, loaded, { port, conf: guestConf }),
    cwd: own === undefined ? guestRoot : `${guestRoot}/${own}`,
    env: { PATH: guestPath, LC_ALL: 'C', FASTIO_PADDING: 'x'.repeat(run.environmentPadding) },
    ready: new RegExp(serverOf(run, loaded).ready),
    port,
    readyMs: patienceMs(readyMs, vm.info.accel),
    stopMs: patienceMs(stopMs, vm.info.accel),
    signal,
  });
}

async function measureWindow(
  { vm }: Bench,
  run: PlannedRun,
  server: GuestServer,
  window: number,
  options: MeasureOptions,
  log: string[],
): Promise<Measurement> {
  const { loaded, profile, clock, signal } = options;
  const { windowMs, warmupMs } = windowOf(loaded, profile, clock);
  const argv = loadWords(run, window, options, {
    port: server.port,
    pid: server.pid,
    timeoutMs: patienceMs(replyMs, vm.info.accel),
  });
  const { status, stdout, stderr } = await vm.exec(argv, {
    env: { PATH: guestPath, LC_ALL: 'C' },
    cwd: guestRoot,
    // The server gone, the generator has nothing to wait for.
    signal: AbortSignal.any([signal, server.ended]),
    timeoutMs: patienceMs(windowMs + warmupMs + loadOverheadMs, vm.info.accel),
  });
  log.push(...loadLog(window, argv, stdout, stderr));
  // A server that crashed is the reason; that the generator lost its connections is the consequence.
  server.ended.throwIfAborted();
  if (status !== 0) throw loadFailed(status, stdout, stderr);
  return parseLoadOutput(loaded.suite.load.format, stdout, {
    what: `${pointText(run.point)}, window ${window}`,
    serverCpus: run.point.placement.serverCpus,
  });
}

/** Failures of the machinery end the run; everything else is the point's own. */
const fatal: ReadonlySet<string> = new Set([
  'DISK_FULL',
  'INTERRUPTED',
  'USAGE',
  'INPUT_INVALID',
  'HOST_UNSUPPORTED',
]);

function failureOf(error: unknown, log: readonly string[]): NonNullable<RunRecord['failure']> {
  if (!(error instanceof FastioError) || fatal.has(error.code)) throw error;
  const { code, message, detail } = error;
  return {
    code,
    message,
    kernel: code.startsWith('GUEST_') && code !== 'GUEST_COMMAND' && code !== 'GUEST_BUSY',
    log: (detail.length > 0 ? detail : log).slice(-60),
  };
}

async function troubleSince({ vm }: Bench, mark: number): Promise<readonly KernelReport[]> {
  try {
    return (await vm.kernelTrouble(mark)).reports;
  } catch (error) {
    // A dead guest's reason is in vm.died and has already failed the run.
    if (error instanceof FastioError && vm.died.aborted) return [];
    throw error;
  }
}
