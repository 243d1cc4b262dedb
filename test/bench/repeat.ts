/**
 * Measures the servers of the echo suite with one worker, again and again with one seed, in virtual time, and prints the
 * hash of each run's results without the host's part. Exits 1 unless all are equal.
 *
 *   npm run bench:repeat -- [--runs 5] [--seed 1] [--workers 1] [--servers fastio fastio-hybrid] [--jobs 1]
 *   npm run bench:repeat -- --whole            the suite's quick profile as it is; takes several times as long
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { parse, stringify } from 'yaml';
import { resultsHash } from '../../suites/judge/results.js';
import { loadResults, loadSuite } from '../../suites/schema/load.js';
import { runOrThrow } from '../../vm/exec.js';
import { projectRoot } from '../../vm/paths.js';

interface Asked {
  readonly runs: number;
  readonly seed: number;
  readonly workers: number;
  /** Absent: all. */
  readonly servers?: readonly string[];
  readonly jobs: number;
  readonly whole: boolean;
}

/**
 * A copy of the echo suite whose quick profile starts each server once, for three short windows.
 * @returns Its path below `directory`, since a results' hash covers what its suite was called by.
 */
async function reducedSuite(directory: string, { workers, servers }: Asked): Promise<string> {
  const { file, suite } = await loadSuite('echo');
  const point = { servers: servers ?? Object.keys(suite.servers), connections: [25], messageBytes: [64] };
  const quick = {
    ...{ boots: 1, processes: 1, windows: 3, points: [{ ...point, workers: [workers] }] },
    windowMs: { wall: 1_000, virtual: 5 },
    warmupMs: { wall: 200, virtual: 2 },
  };
  // The claims on the suite are checked against its other profiles, so those stay.
  const whole = parse(await readFile(file, 'utf8')) as { profiles: object };
  const text = stringify({ ...whole, profiles: { ...whole.profiles, quick } });
  await writeFile(join(directory, 'echo.yaml'), text);
  return './echo.yaml';
}

async function hashOf(directory: string, suite: string, { seed, jobs }: Asked, out: string): Promise<string> {
  const main = join(projectRoot, 'dist/cli/main.js');
  await runOrThrow(
    [
      ...[process.execPath, main, 'run', suite, '--profile', 'quick', '--clock', 'virtual'],
      ...['--backend', 'native', '--seed', String(seed), '--jobs', String(jobs), '--out', out],
    ],
    { cwd: directory, signal: interrupted.signal },
  );
  return resultsHash(await loadResults(join(directory, out)));
}

const least =
  (minimum: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < minimum) {
      throw new InvalidArgumentError(`expected a whole number of at least ${minimum}`);
    }
    return value;
  };

const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => {
    interrupted.abort(new Error(name));
  });
}

const asked = new Command('bench:repeat')
  .option('--runs <n>', 'how often', least(2), 5)
  .option('--seed <n>', 'of every run', least(1), 1)
  .option('--workers <n>', 'of every server', least(1), 1)
  .option('--servers <names...>', 'besides the baseline; without it all')
  .option('--jobs <n>', 'guests side by side', least(1), cpus().length)
  .option('--whole', 'the quick profile of the suite as it is', false)
  .parse()
  .opts<Asked>();
const directory = await mkdtemp(join(tmpdir(), 'fastio-repeat-'));
try {
  const suite = asked.whole ? 'echo' : await reducedSuite(directory, asked);
  const hashes: string[] = [];
  for (let run = 1; run <= asked.runs; run += 1) {
    const begun = performance.now();
    const hash = await hashOf(directory, suite, asked, String(run));
    const seconds = ((performance.now() - begun) / 1000).toFixed(0);
    process.stdout.write(`run ${run} of ${asked.runs}: sha256 ${hash} (${seconds} s)\n`);
    hashes.push(hash);
  }
  const different = new Set(hashes).size;
  process.stdout.write(different === 1 ? 'all equal\n' : `${different} different results\n`);
  process.exitCode = different === 1 ? 0 : 1;
} finally {
  await rm(directory, { recursive: true, force: true });
}
