import { cp, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FastioError, errnoOf } from '../../vm/errors.js';
import { resultsBuilder } from '../judge/results.js';
import type { Header } from '../judge/results.js';
import { planRuns } from '../plan/planner.js';
import type { Watch } from '../run/options.js';
import type { Outcome } from '../run/run-suites.js';
import { outcomeOf } from '../run/run-suites.js';
import { claimsName, inputsDir, openStore, readRecords } from '../run/store.js';
import { loadClaims, loadResults, loadSuite } from '../schema/load.js';
import type { LoadedSuite } from '../schema/load.js';
import type { Results } from '../schema/results.js';

/** Facts that shards of one run share; a guest of another kind would measure something else. */
const shared = [
  'profile',
  'clock',
  'accel',
  'arch',
  'kernel',
  'seed',
  'forced',
  'lockHash',
  'planHash',
  'conf',
] as const;

/**
 * Joins the shards of one run. The result is worked out anew from the raw records, and so equals that of the run without
 * shards.
 * @param directories Of all shards, in any order.
 * @param out Made when absent; refused when it holds a run.
 * @throws FastioError INPUT_INVALID when the shards are not of one run, overlap, or one is missing.
 */
export async function mergeRuns(
  directories: readonly string[],
  out: string,
  { signal }: Watch,
): Promise<Outcome> {
  const shards: Shard[] = [];
  for (const directory of directories) shards.push({ directory, results: await loadResults(directory) });
  const [first] = shards;
  if (first === undefined)
    throw new FastioError('USAGE', 'found no directory, expected shards', 'Name them.');
  for (const shard of shards) checkSame(first, shard);
  checkComplete(shards);
  const suites = await suitesOf(first);
  const { profile, clock, accelAsked, arch, kernel, seed, forced } = first.results;
  const plan = planRuns(suites, {
    profile,
    clock: clock.name,
    accel: accelAsked,
    arch,
    kernel,
    seed,
    force: forced,
    costs: clock.costProfile ?? '',
  });
  if (plan.hash !== first.results.planHash) {
    throw new FastioError(
      'INPUT_INVALID',
      `${join(first.directory, 'results.json')}: found a plan that this release does not make, expected ${plan.hash}`,
      'Merge with the release that ran the shards.',
    );
  }
  const { claims } = await loadClaims(join(first.directory, inputsDir, claimsName), suites);
  const store = await openStore(out, false);
  await cp(join(first.directory, inputsDir), join(out, inputsDir), { recursive: true });
  for (const { directory } of shards) {
    for (const record of await readRecords(directory)) {
      signal.throwIfAborted();
      await store.saveRecord(record);
    }
    await cp(join(directory, 'logs'), join(out, 'logs'), { recursive: true });
    const [kernelLog, consoleLog] = [
      await logOf(directory, 'kernel.log'),
      await logOf(directory, 'console.log'),
    ];
    await store.saveLogs(basename(directory), { kernel: kernelLog, console: consoleLog });
  }
  const header = headerOf(
    first.results,
    shards.map(({ results }) => results),
  );
  const results = resultsBuilder()({ header, plan, suites, claims }, [...store.records.values()]);
  await store.saveResults(results);
  return outcomeOf(results, out);
}

interface Shard {
  readonly directory: string;
  readonly results: Results;
}

function checkSame(first: Shard, other: Shard): void {
  for (const key of shared) {
    const [found, expected] = [JSON.stringify(other.results[key]), JSON.stringify(first.results[key])];
    if (found === expected) continue;
    throw new FastioError(
      'INPUT_INVALID',
      `${join(other.directory, 'results.json')}: ${key}: found ${found}, expected ${expected} as in ${first.directory}`,
      'Merge only shards of one run: same suites, options, seed and lock files.',
    );
  }
}

function checkComplete(shards: readonly Shard[]): void {
  const count = shards[0]?.results.shard?.count;
  const seen = new Map<number, string>();
  for (const { directory, results } of shards) {
    const { shard, progress } = results;
    const file = join(directory, 'results.json');
    if (shard === null || count === undefined) {
      throw new FastioError(
        'INPUT_INVALID',
        `${file}: shard: found null, expected a run made with --shard`,
        'A whole run needs no merging.',
      );
    }
    const twin = seen.get(shard.index);
    if (shard.count !== count || twin !== undefined) {
      const found = `found ${shard.index}/${shard.count}${twin === undefined ? '' : `, which ${twin} is too`}`;
      const expected = `expected each of 1 to ${count} once`;
      throw new FastioError(
        'INPUT_INVALID',
        `${file}: shard: ${found}, ${expected}`,
        'Name each shard once.',
      );
    }
    if (!progress.complete) {
      throw new FastioError(
        'INPUT_INVALID',
        `${file}: progress: found ${progress.finished} of ${progress.runs} runs, expected all`,
        'Finish that shard with --resume.',
      );
    }
    seen.set(shard.index, directory);
  }
  const missing = Array.from({ length: count ?? 0 }, (_, at) => at + 1).filter((index) => !seen.has(index));
  if (missing.length > 0) {
    throw new FastioError(
      'INPUT_INVALID',
      `found ${seen.size} of ${count ?? 0} shards, expected ${missing.join(', ')} too`,
      'Name the directories of all shards.',
    );
  }
}

async function suitesOf({ directory, results }: Shard): Promise<readonly LoadedSuite[]> {
  const suites: LoadedSuite[] = [];
  for (const { name } of results.suites)
    suites.push(await loadSuite(join(directory, inputsDir, `${name}.yaml`)));
  return suites;
}

/** The header of the whole: host facts that differ between shards are all told. */
function headerOf(first: Results, all: readonly Results[]): Header {
  const keys = new Set(all.flatMap(({ fingerprint }) => Object.keys(fingerprint.host)));
  const host = Object.fromEntries(
    [...keys].map((key) => {
      const values = [...new Set(all.map(({ fingerprint }) => fingerprint.host[key] ?? 'none'))];
      return [key, values.length === 1 ? (values[0] ?? 'none') : values.join(' | ')] as const;
    }),
  );
  const finished = all.flatMap((results) => results.host.finishedAt ?? []).sort();
  const started = all.map((results) => results.host.startedAt).sort();
  const { tool, profile, clock, accel, accelAsked, accelReason, arch, kernel, seed, forced } = first;
  return {
    tool,
    profile,
    clock,
    accel,
    accelAsked,
    accelReason,
    arch,
    kernel,
    seed,
    shard: null,
    forced,
    lockHash: first.lockHash,
    conf: first.conf,
    suites: first.suites,
    fingerprint: { ...first.fingerprint, host },
    resumed: all.some(({ progress }) => progress.resumed),
    host: {
      startedAt: started[0] ?? first.host.startedAt,
      finishedAt: finished.at(-1) ?? null,
      elapsedSeconds: all.reduce((sum, results) => sum + results.host.elapsedSeconds, 0),
    },
  };
}

async function logOf(directory: string, name: string): Promise<string> {
  try {
    return await readFile(join(directory, name), 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return `(no ${name})`;
    throw error;
  }
}
