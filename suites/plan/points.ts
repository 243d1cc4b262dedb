import type { LoadedSuite } from '../schema/load.js';
import { invalid } from '../schema/source.js';
import type { ClockName, ProfileName, SuiteMatrix } from '../schema/suite.js';
import { profileName, profileOf, serverThreads } from '../schema/suite.js';

/** One combination that gets figures of its own. */
export interface PlannedPoint {
  /** `echo/fastio/w3/c25/b64`, and `/get` for a kind of request, `/r10000` in an open loop. */
  readonly id: string;
  readonly suite: string;
  readonly server: string;
  readonly workers: number;
  readonly connections: number;
  readonly messageBytes: number;
  /** Requests per second, or null in a closed loop. */
  readonly rate: number | null;
  /** Which of the suite's load.requests; absent in suites that have none. */
  readonly request?: string;
  readonly baseline: boolean;
  readonly placement: Placement;
}

/** Which vCPUs a point's threads are pinned to. vCPU 0 is the agent's and the clock watcher's. */
export interface Placement {
  readonly serverCpus: readonly number[];
  readonly loadCpus: readonly number[];
  /** More threads than CPUs: only when forced, and said beside every figure. */
  readonly oversubscribed: boolean;
}

/** Points that share connections, message, kind of request and rate, and so a baseline. */
export interface Condition {
  readonly id: string;
  readonly suite: string;
  readonly points: readonly PlannedPoint[];
}

/**
 * The points of a profile, by condition, each with its baseline first.
 * @param force Allow fewer CPUs than threads.
 * @throws FastioError INPUT_INVALID with file:line when a point needs more CPUs than the guest has.
 */
export function conditionsOf(
  loaded: LoadedSuite,
  profile: ProfileName,
  force: boolean,
): readonly Condition[] {
  const { suite, name, source } = loaded;
  const conditions = new Map<string, Map<string, PlannedPoint>>();
  profileOf(suite, profile).points.forEach((matrix, index) => {
    for (const place of placesOf(matrix)) {
      const id = conditionId(place);
      const points = conditions.get(id) ?? new Map<string, PlannedPoint>();
      conditions.set(id, points);
      const wanted = [
        { server: suite.baseline.server, workers: suite.baseline.workers },
        ...matrix.servers.flatMap((server) => matrix.workers.map((workers) => ({ server, workers }))),
      ];
      for (const { server, workers } of wanted) {
        const point = { suite: name, server, workers, ...place };
        const placement = placementOf(loaded, server, workers, force);
        if (placement === undefined) {
          throw invalid(source, [
            {
              path: ['profiles', profileName(suite, profile), 'points', index, 'workers'],
              message: tooManyThreads(loaded, server, workers),
            },
          ]);
        }
        const baseline = server === suite.baseline.server && workers === suite.baseline.workers;
        points.set(pointId(point), { ...point, id: pointId(point), baseline, placement });
      }
    }
  });
  return [...conditions].map(([id, points]) => ({ id, suite: name, points: [...points.values()] }));
}

interface Place {
  readonly connections: number;
  readonly messageBytes: number;
  readonly rate: number | null;
  readonly request?: string;
}

function placesOf(matrix: SuiteMatrix): readonly Place[] {
  return matrix.connections.flatMap((connections) =>
    matrix.messageBytes.flatMap((messageBytes) =>
      (matrix.rates ?? [null]).flatMap((rate) => {
        const place = { connections, messageBytes, rate };
        return matrix.requests?.map((request) => ({ ...place, request })) ?? [place];
      }),
    ),
  );
}

/** `c25-b64`, and `-get` for a kind of request, `-r10000` in an open loop. */
export function conditionId({ connections, messageBytes, rate, request }: Place): string {
  const kind = request === undefined ? '' : `-${request}`;
  return `c${connections}-b${messageBytes}${kind}${rate === null ? '' : `-r${rate}`}`;
}

function pointId(point: Place & { suite: string; server: string; workers: number }): string {
  const { suite, server, workers, connections, messageBytes, rate, request } = point;
  const kind = request === undefined ? '' : `/${request}`;
  return `${suite}/${server}/w${workers}/c${connections}/b${messageBytes}${kind}${rate === null ? '' : `/r${rate}`}`;
}

/** `fastio x3, 25 connections, 64 B`, for people. */
export function pointText(point: Place & { readonly server: string; readonly workers: number }): string {
  const rate = point.rate === null ? '' : `, ${point.rate} requests/s sent`;
  const kind = point.request === undefined ? '' : `, ${point.request}`;
  return `${point.server} x${point.workers}, ${point.connections} connections, ${point.messageBytes} B${kind}${rate}`;
}

/** The generator keeps the last CPUs at every point, so that it is the same generator for all. */
function placementOf(
  { suite }: LoadedSuite,
  server: string,
  workers: number,
  force: boolean,
): Placement | undefined {
  const definition = suite.servers[server];
  if (definition === undefined) return undefined;
  const threads = Math.max(1, serverThreads(definition, workers));
  const { cpus } = suite.vm;
  const fits = 1 + threads + suite.load.threads <= cpus;
  if (!fits && !force) return undefined;
  const wrap = (cpu: number): number => ((cpu % cpus) + cpus) % cpus;
  return {
    serverCpus: Array.from({ length: threads }, (_, index) => wrap(1 + index)),
    loadCpus: Array.from({ length: suite.load.threads }, (_, index) =>
      wrap(cpus - suite.load.threads + index),
    ),
    oversubscribed: !fits,
  };
}

function tooManyThreads({ suite }: LoadedSuite, server: string, workers: number): string {
  const definition = suite.servers[server];
  const threads = definition === undefined ? 0 : serverThreads(definition, workers);
  const total = 1 + threads + suite.load.threads;
  return (
    `found ${server} x${workers}, which needs ${total} CPUs (1 to watch, ${threads} server, ` +
    `${suite.load.threads} generator), expected at most vm.cpus, which is ${suite.vm.cpus} (--force runs it all the same)`
  );
}

/** Longest window and warm-up of a profile under a clock, in ms of that clock. */
export function windowOf(
  loaded: LoadedSuite,
  profile: ProfileName,
  clock: ClockName,
): { readonly windowMs: number; readonly warmupMs: number } {
  const { windowMs, warmupMs } = profileOf(loaded.suite, profile);
  return { windowMs: windowMs[clock], warmupMs: warmupMs[clock] };
}
