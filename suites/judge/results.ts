import { createHash } from 'node:crypto';
import type { Accel } from '../../vm/vm.js';
import type { Plan } from '../plan/planner.js';
import type { RunRecord } from '../run/record.js';
import type { Claim } from '../schema/claims.js';
import type { LoadedSuite } from '../schema/load.js';
import type { Failure, Noise, Point, Results } from '../schema/results.js';
import { resultsVersion } from '../schema/results.js';
import { profileOf } from '../schema/suite.js';
import type { ProfileName } from '../schema/suite.js';
import { judgeClaims } from './claims.js';
import type { Conditions } from './comparable.js';
import { incomparableReasons } from './comparable.js';
import type { PointMemory } from './points.js';
import { judgeCondition, recordsOf } from './points.js';

/** All of results.json that is not worked out from raw records. */
export type Header = Omit<
  Results,
  'version' | 'progress' | 'order' | 'points' | 'noise' | 'claims' | 'failures' | 'planHash'
> & { readonly profile: ProfileName; readonly resumed: boolean };

export interface ResultsInput {
  readonly header: Header;
  readonly plan: Plan;
  readonly suites: readonly LoadedSuite[];
  readonly claims: readonly Claim[];
}

/**
 * Makes results out of raw records. Points whose records and baseline did not change since the last call are not
 * worked out again: intervals take thousands of draws, and results are written after every run.
 */
export function resultsBuilder(): (input: ResultsInput, records: readonly RunRecord[]) => Results {
  const memory: PointMemory = new Map();
  return (input, records) => {
    const { header, plan, suites, claims } = input;
    const points: Point[] = [];
    const noise: Noise[] = [];
    for (const condition of plan.conditions) {
      const loaded = suites.find(({ name }) => name === condition.suite);
      if (loaded === undefined) continue;
      const { boots, processes } = profileOf(loaded.suite, header.profile);
      const mine = recordsOf(condition, records);
      const incomparable = incomparableReasons(conditionsFor(header, loaded.suite.vm.cpus));
      const setting = {
        clock: header.clock.name,
        seed: header.seed,
        runsPerPoint: boots * processes,
        titleOf: (server: string) => loaded.suite.servers[server]?.title ?? server,
        incomparable,
      };
      const judged = judgeCondition(condition, mine, setting, memory);
      points.push(...judged.points);
      noise.push(...judged.noise);
    }
    const guestCpus = Math.max(1, ...suites.map(({ suite }) => suite.vm.cpus));
    const order = plan.blocks.flatMap(({ runs }) => runs.map(({ id }) => id));
    const finished = order.filter((id) => records.some((record) => record.id === id)).length;
    const { resumed, ...rest } = header;
    return {
      version: resultsVersion,
      ...rest,
      planHash: plan.hash,
      progress: { runs: order.length, finished, complete: finished === order.length, resumed },
      order,
      points,
      noise,
      claims: [...judgeClaims(claims, points, noise, conditionsFor(header, guestCpus))],
      failures: failuresOf(records),
    };
  };
}

function conditionsFor(header: Header, guestCpus: number): Conditions {
  const { host } = header.fingerprint;
  return {
    clock: header.clock.name,
    accel: header.accel as Accel | null,
    costProfile: header.clock.costProfile,
    cpuModel: String(host['cpuModel'] ?? ''),
    hostCpus: Number(host['cpus'] ?? 0),
    guestCpus,
  };
}

function failuresOf(records: readonly RunRecord[]): Failure[] {
  return [...records]
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .flatMap(({ id, point, boot, process, failure }) =>
      failure === null ? [] : [{ run: id, point, boot, process, ...failure }],
    );
}

/**
 * Results without what differs between two equal runs: host times, whether they were resumed or joined from shards and,
 * where time is virtual, the machine that simulated. Equal text means equal results.
 * @returns JSON.
 */
export function normalisedText(results: Results): string {
  const { host, shard, progress, fingerprint, ...rest } = results;
  const comparable = {
    ...rest,
    host: host.finishedAt === null ? 'running' : 'finished',
    shard: shard === null,
    progress: { ...progress, resumed: undefined },
    fingerprint: results.clock.name === 'virtual' ? { ...fingerprint, host: undefined } : fingerprint,
  };
  return JSON.stringify(comparable, sortedKeys);
}

/** sha256 of the normalised results, in hexadecimal: what two virtual-clock runs of one seed have in common. */
export function resultsHash(results: Results): string {
  return createHash('sha256').update(normalisedText(results)).digest('hex');
}

/** Objects with their keys in order, whoever made them. */
function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
