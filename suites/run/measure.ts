import { FastioError } from '../../vm/errors.js';
import type { Report } from '../../vm/progress.js';
import type { KernelReport } from '../../vm/vm.js';
import type { PlannedRun } from '../plan/planner.js';
import { pointText } from '../plan/points.js';
import { fill } from '../plan/template.js';
import type { LoadedSuite } from '../schema/load.js';
import type { ClockName, ProfileName, SuiteServer } from '../schema/suite.js';
import { profileOf } from '../schema/suite.js';
import type { Bench } from './guest.js';
import { guestConf, guestPath, guestRoot } from './guest.js';
import { parseLoadOutput } from './load-output.js';
import { patienceMs } from './patience.js';
import type { Measurement, RunRecord } from './record.js';
import { recordVersion } from './record.js';
import type { GuestServer } from './server.js';
import { startServer } from './server.js';

export interface MeasureOptions {
  readonly loaded: LoadedSuite;
  readonly profile: ProfileName;
  readonly clock: ClockName;
  readonly seed: number;
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

/** Intervals a window is cut into, so that warm-up left in it can be seen. */
const intervalsPerWindow = 10;
/** Ports count up within a boot: a server never meets connections of the one before it. */
const firstPort = 20_000;
const portCount = 10_000;
const readyMs = 15_000;
const stopMs = 10_000;
/** A generator connects, warms up, measures and reports; all but the measuring takes less than this. */
const loadOverheadMs = 30_000;
/** A reply that takes longer is lost. */
const replyMs = 10_000;
/** Characters of a line of the generator's that go to the log. */
const maxLogLine = 1_000;

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
  const finish = (failure: RunRecord['failure']): RunRecord => ({
    version: recordVersion,
    id: run.id,
    point: run.point.id,
    replica: run.replica,
    boot: run.boot,
    process: run.process,
    status: failure === null ? 'ok' : 'failed',
    failure,
    windows,
    accel: vm.info.accel,
    oversubscribed: run.point.placement.oversubscribed,
    host: { startedAt: startedAt.toISOString(), seconds: (performance.now() - begun) / 1000 },
  });
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
  if (trouble !== undefined) {
    failure = {
      code: `GUEST_${trouble.severity.toUpperCase()}`,
      message: `the guest kernel reported: ${trouble.headline}`,
      kernel: true,
      log: [trouble.headline, ...trouble.lines].slice(0, 60),
    };
  }
  return {
    record: finish(failure),
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
  const definition = loaded.suite.servers[run.point.server];
  if (definition === undefined) throw new RangeError(`no server ${run.point.server}`);
  const server = await startOf(bench, run, index, definition, options);
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
  definition: SuiteServer,
  { loaded, clock, signal }: MeasureOptions,
): Promise<GuestServer> {
  const { server, workers, connections, messageBytes, placement } = run.point;
  const port = firstPort + (index % portCount);
  const argv = fill<'server'>(definition.run, {
    port,
    workers,
    connections,
    messageBytes,
    threads: placement.serverCpus.length,
    serverCpus: placement.serverCpus.join(','),
    conf: guestConf,
  });
  const own = definition.source !== undefined;
  return startServer(vm, {
    name: `${server} x${workers}`,
    argv,
    cwd: own ? `${guestRoot}/servers/${loaded.name}/${server}` : guestRoot,
    env: { PATH: guestPath, LC_ALL: 'C', FASTIO_PADDING: 'x'.repeat(run.environmentPadding) },
    ready: new RegExp(definition.ready),
    port,
    readyMs: patienceMs(readyMs, clock, vm.info.accel),
    stopMs: patienceMs(stopMs, clock, vm.info.accel),
    signal,
  });
}

async function measureWindow(
  { vm }: Bench,
  run: PlannedRun,
  server: GuestServer,
  window: number,
  { loaded, profile, clock, seed, signal }: MeasureOptions,
  log: string[],
): Promise<Measurement> {
  const { load } = loaded.suite;
  const planned = profileOf(loaded.suite, profile);
  const { workers, connections, messageBytes, rate, placement } = run.point;
  const windowMs = planned.windowMs[clock];
  const warmupMs = planned.warmupMs[clock];
  const command = [load.run, rate === null ? [] : load.openLoop];
  const values = {
    port: server.port,
    workers,
    connections,
    messageBytes,
    rate: rate ?? 0,
    // A thread without a connection would be refused.
    loadThreads: Math.min(placement.loadCpus.length, connections),
    loadCpus: placement.loadCpus.join(','),
    warmupMs,
    windowMs,
    intervals: intervalsPerWindow,
    // On the guest's own clock: virtual time needs no patience with a slow host.
    timeoutMs: clock === 'virtual' ? replyMs : patienceMs(replyMs, clock, vm.info.accel),
    pid: server.pid,
    seed: (seed + window) % 2 ** 31,
    clockHints: clock === 'virtual' ? '--clock-hints' : '',
  };
  const argv = command.flatMap((part) => fill<'load'>(part, values));
  const timeoutMs = patienceMs(windowMs + warmupMs + loadOverheadMs, clock, vm.info.accel);
  const { status, stdout, stderr } = await vm.exec(argv, {
    env: { PATH: guestPath, LC_ALL: 'C' },
    cwd: guestRoot,
    // The server gone, the generator has nothing to wait for.
    signal: AbortSignal.any([signal, server.ended]),
    timeoutMs,
  });
  log.push(`==> window ${window}: ${argv.join(' ')}`, ...stdout.trimEnd().split('\n').map(shortened));
  log.push(...(stderr === '' ? [] : stderr.trimEnd().split('\n')));
  // A server that crashed is the reason; that the generator lost its connections is the consequence.
  server.ended.throwIfAborted();
  if (status !== 0) {
    throw new FastioError(
      'GUEST_COMMAND',
      `the load generator ended with status ${status}: ${lastLine(stderr) ?? lastLine(stdout) ?? 'no message'}`,
      'Read the log of the run.',
      { detail: stderr.trimEnd().split('\n').slice(-20) },
    );
  }
  return parseLoadOutput(load.format, stdout, {
    what: `${pointText(run.point)}, window ${window}`,
    serverCpus: placement.serverCpus,
  });
}

/** The generator's JSON is in the raw record; its first figures are enough for a log. */
function shortened(line: string): string {
  return line.length > maxLogLine ? `${line.slice(0, maxLogLine)}…` : line;
}

function lastLine(text: string): string | undefined {
  const line = text.trimEnd().split('\n').at(-1);
  return line === '' ? undefined : line;
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
