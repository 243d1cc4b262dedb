import type { PlannedRun } from '../plan/planner.js';
import { fill, wordsOf } from '../plan/template.js';
import type { LoadedSuite } from '../schema/load.js';
import type { ClockName, ProfileName, SuiteServer } from '../schema/suite.js';
import { profileOf } from '../schema/suite.js';

/** What decides how programs are called, besides the run. */
export interface CommandOptions {
  readonly loaded: LoadedSuite;
  readonly profile: ProfileName;
  readonly clock: ClockName;
  readonly seed: number;
}

/** Intervals a window is cut into, so that warm-up left in it can be seen. */
const intervalsPerWindow = 10;

/** @throws RangeError for a run of another suite. */
export function serverOf({ point }: PlannedRun, { suite }: LoadedSuite): SuiteServer {
  const definition = suite.servers[point.server];
  if (definition === undefined) throw new RangeError(`no server ${point.server}`);
  return definition;
}

/** Where a server's own files are below the directory of artifacts; undefined for the project's programs. */
export function ownDirectory(run: PlannedRun, loaded: LoadedSuite): string | undefined {
  const { source } = serverOf(run, loaded);
  return source === undefined ? undefined : `servers/${loaded.name}/${run.point.server}`;
}

/** argv of a run's server. */
export function serverWords(
  run: PlannedRun,
  loaded: LoadedSuite,
  { port, conf }: { readonly port: number; readonly conf: string },
): readonly string[] {
  const { workers, connections, messageBytes, placement } = run.point;
  return fill<'server'>(serverOf(run, loaded).run, {
    port,
    workers,
    connections,
    messageBytes,
    threads: placement.serverCpus.length,
    serverCpus: placement.serverCpus.join(','),
    conf,
  });
}

/**
 * argv of the generator for one window.
 * @param server Port and pid of the server, or what stands for them until they are known; `timeoutMs`: a reply that takes
 *   longer on the guest's clock is lost.
 */
export function loadWords(
  run: PlannedRun,
  window: number,
  { loaded, profile, clock, seed }: CommandOptions,
  server: { readonly port: number | string; readonly pid: number | string; readonly timeoutMs: number },
): readonly string[] {
  const { load } = loaded.suite;
  const planned = profileOf(loaded.suite, profile);
  const { workers, connections, messageBytes, rate, request, placement } = run.point;
  // Words of the suite's own, which may hold placeholders themselves.
  const asked = load.requests?.[request ?? ''] ?? '';
  const values = {
    port: server.port,
    workers,
    connections,
    messageBytes,
    rate: rate ?? 0,
    // Within a word of a shell's, they stand as they are.
    request: asked,
    // A thread without a connection would be refused.
    loadThreads: Math.min(placement.loadCpus.length, connections),
    loadCpus: placement.loadCpus.join(','),
    warmupMs: planned.warmupMs[clock],
    windowMs: planned.windowMs[clock],
    intervals: intervalsPerWindow,
    timeoutMs: server.timeoutMs,
    pid: server.pid,
    seed: (seed + window) % 2 ** 31,
    clockHints: clock === 'virtual' ? '--clock-hints' : '',
  };
  const words = wordsOf(load.run).flatMap((word) => (word === '{request}' ? wordsOf(asked) : [word]));
  return [words, rate === null ? [] : load.openLoop].flatMap((part) => fill<'load'>(part, values));
}
