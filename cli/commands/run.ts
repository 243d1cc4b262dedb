import { existsSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { Comparison } from '../../suites/compare/compare.js';
import { compareRuns } from '../../suites/compare/compare.js';
import type { ExactComparison } from '../../suites/compare/exact.js';
import { compareExactly } from '../../suites/compare/exact.js';
import { mergeRuns } from '../../suites/compare/merge.js';
import { resultsHash } from '../../suites/judge/results.js';
import type { Shard } from '../../suites/plan/planner.js';
import { writeReport } from '../../suites/report/write.js';
import type { SuiteOptions } from '../../suites/run/options.js';
import { reproduce } from '../../suites/run/reproduce.js';
import type { Outcome } from '../../suites/run/run-suites.js';
import { runSuites } from '../../suites/run/run-suites.js';
import type { ClockChoice, ProfileName } from '../../suites/schema/suite.js';
import { FastioError } from '../../vm/errors.js';
import { lockFile } from '../../vm/image/lock.js';
import { publishedCosts } from '../../vm/clock/profiles.js';
import { runJob } from '../../vm/clock/job.js';
import { bootQemu, probeHardware } from '../../vm/machine/qemu-vm.js';
import type { AccelChoice, Arch, KernelSeries } from '../../vm/vm.js';
import { buildArtifacts } from '../artifacts.js';
import type { Context } from '../context.js';
import { exitCodes } from '../exit.js';
import type { Backend } from '../options.js';
import { resultsText } from '../results-text.js';

export interface RunCommandOptions {
  readonly backend: Backend;
  readonly profile: ProfileName;
  readonly clock: ClockChoice;
  readonly costs?: string;
  readonly jobs?: number;
  readonly profileLines: boolean;
  readonly accel: AccelChoice;
  readonly requireAccel: boolean;
  readonly arch: Arch;
  readonly kernel: KernelSeries;
  readonly qemu: 'locked' | 'host';
  readonly shard?: Shard;
  readonly seed?: number;
  readonly out?: string;
  readonly resume?: string;
  readonly force: boolean;
  readonly conf: string;
  readonly claims?: string;
}

export interface ReproduceCommandOptions extends RunCommandOptions {
  readonly also?: readonly string[];
}

/** `fastio run`: measures suites and leaves results and a report in a directory. */
export async function runCommandOf(
  suites: readonly string[],
  options: RunCommandOptions,
  version: string,
  context: Context,
): Promise<number> {
  const asked = await suiteOptions(options, version, context);
  return resumable(asked.out, context, async () => finish(await runSuites({ ...asked, suites }), context));
}

/** `fastio reproduce`: measures what the claims are about, and more if asked; exit 1 when one is refuted. */
export async function reproduceCommand(
  options: ReproduceCommandOptions,
  version: string,
  context: Context,
): Promise<number> {
  // Under these costs absolute figures can be judged, too.
  const costs = options.costs ?? (options.resume === undefined ? publishedCosts : undefined);
  const asked = costs === undefined ? options : { ...options, costs };
  const all = await suiteOptions(asked, version, context);
  return resumable(all.out, context, async () => {
    const outcome = await reproduce({ ...all, also: options.also ?? [] });
    const code = await finish(outcome, context);
    return code === exitCodes.good && outcome.refuted > 0 ? exitCodes.failed : code;
  });
}

async function suiteOptions(
  options: RunCommandOptions,
  toolVersion: string,
  context: Context,
): Promise<Omit<SuiteOptions, 'suites'>> {
  const { arch, kernel, resume, claims, shard, seed, costs, jobs } = options;
  const out = resume ?? options.out ?? (await freshDirectory());
  return {
    ...context,
    bootVm: bootQemu,
    runJob: (spec, job, clock, watch) => runJob(spec, job, clock, { bootVm: bootQemu, ...watch }),
    probeHardware,
    buildArtifacts,
    profile: options.profile,
    clock: options.clock,
    accel: options.accel,
    requireAccel: options.requireAccel,
    arch,
    kernel,
    qemu: options.qemu,
    out,
    resume: resume !== undefined,
    force: options.force,
    profileLines: options.profileLines,
    confFile: options.conf,
    lockFiles: [lockFile(`guest-${arch}`), lockFile(`kernel-${kernel}-${arch}`)],
    toolVersion,
    ...(shard === undefined ? {} : { shard }),
    ...(seed === undefined ? {} : { seed }),
    ...(costs === undefined ? {} : { costs }),
    ...(jobs === undefined ? {} : { jobs }),
    ...(claims === undefined ? {} : { claimsFile: claims }),
  };
}

/** `results/<date>-<n>` below the current directory, the first that is free. */
async function freshDirectory(): Promise<string> {
  const day = new Date().toISOString().slice(0, 10);
  for (let n = 1; n < 1_000; n++) {
    const directory = join('results', `${day}-${n}`);
    const taken = await access(directory).then(
      () => true,
      () => false,
    );
    if (!taken) return directory;
  }
  return join('results', `${day}-${Date.now()}`);
}

async function finish({ results, directory, kernel, failed }: Outcome, context: Context): Promise<number> {
  const report = await writeReport(directory);
  const hash = results.clock.name === 'virtual' ? `results: sha256 ${resultsHash(results)}\n` : '';
  const profiles = join(directory, 'profiles');
  const lines = existsSync(profiles) ? `\nprofiles: ${profiles}` : '';
  context.print(results, `${resultsText(results, context.paint)}\n${hash}report: ${report.html}${lines}`);
  if (kernel) return exitCodes.kernel;
  return failed ? exitCodes.failed : exitCodes.good;
}

/** Runs what measures; whoever interrupts it is told how to go on. */
async function resumable(
  directory: string,
  { signal }: Context,
  measure: () => Promise<number>,
): Promise<number> {
  try {
    return await measure();
  } catch (error) {
    if (!signal.aborted || !(error instanceof FastioError) || !existsSync(join(directory, 'results.json'))) {
      throw error;
    }
    const remedy = `What was measured is in ${directory}. Go on with: ${resumeCommand(directory, process.argv)}`;
    throw new FastioError(error.code, error.message, remedy, { cause: error, detail: error.detail });
  }
}

/** The command that was given, with --resume in place of --out. */
export function resumeCommand(directory: string, argv: readonly string[]): string {
  const words: string[] = [];
  const given = argv.slice(2);
  for (let at = 0; at < given.length; at += 1) {
    const word = given[at] ?? '';
    if (word === '--out' || word === '--resume') at += 1;
    else if (!/^--(out|resume)=/.test(word)) words.push(quoted(word));
  }
  return ['npx fastio', ...words, '--resume', quoted(directory)].join(' ');
}

function quoted(word: string): string {
  return /^[\w./:=,+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** `fastio report`: writes the report of a run anew. */
export async function reportCommand(directory: string, context: Context): Promise<number> {
  const written = await writeReport(directory);
  const files = [written.html, written.markdown, ...written.csv, ...written.svg];
  context.print(written, files.join('\n'));
  return exitCodes.good;
}

/** `fastio merge`: joins the shards of one run. */
export async function mergeCommand(
  directories: readonly string[],
  options: { readonly out: string },
  context: Context,
): Promise<number> {
  return finish(await mergeRuns(directories, options.out, context), context);
}

/** `fastio compare`: B against A; exit 1 when B is slower somewhere or the two cannot be compared. */
export async function compareCommand(a: string, b: string, context: Context): Promise<number> {
  const comparison = await compareRuns(a, b);
  context.print(comparison, comparisonText(comparison));
  return comparison.failed ? exitCodes.failed : exitCodes.good;
}

/** `fastio compare --exact`: two runs in virtual time, figure by figure; exit 1 when one differs. */
export async function compareExactlyCommand(a: string, b: string, context: Context): Promise<number> {
  const comparison = await compareExactly(a, b);
  context.print(comparison, exactText(comparison));
  return comparison.failed ? exitCodes.failed : exitCodes.good;
}

/** Differences that are shown to people; all of them are in the JSON. */
const shownDifferences = 40;

function exactText({ a, b, compared, differences, onlyInA, onlyInB }: ExactComparison): string {
  const more = differences.length - shownDifferences;
  return [
    `${b} against ${a}: ${compared} points compared, ${differences.length} figures differ`,
    ...onlyInA.map((point) => `  ${point}: gone`),
    ...onlyInB.map((point) => `  ${point}: new`),
    ...differences
      .slice(0, shownDifferences)
      .map((each) => `  ${each.point}: ${each.figure}: ${each.a} -> ${each.b}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ].join('\n');
}

function comparisonText({ a, b, incomparable, points, noise }: Comparison): string {
  const lines = [
    `${b} against ${a}`,
    ...incomparable.map((reason) => `NOT COMPARABLE: ${reason}`),
    ...points.map(({ point, requestsPerSecond, difference, reason }) => {
      const ratio =
        requestsPerSecond === null
          ? '-'
          : `${requestsPerSecond.median.toFixed(3)} [${requestsPerSecond.low.toFixed(3)}, ${requestsPerSecond.high.toFixed(3)}]`;
      return `  ${point.padEnd(40)} ${ratio.padEnd(24)} ${difference}${reason === '' ? '' : `: ${reason}`}`;
    }),
    noise === null
      ? 'no noise band: neither run measured the same server twice'
      : `noise band: ±${(noise * 100).toFixed(1)} %`,
  ];
  return lines.join('\n');
}
