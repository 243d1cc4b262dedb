import { join } from 'node:path';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import type { Shard } from '../suites/plan/planner.js';
import { clocks, profiles } from '../suites/schema/suite.js';
import { projectRoot } from '../vm/paths.js';
import { accelerators, architectures, kernels } from '../vm/vm.js';
import type { ReproduceCommandOptions, RunCommandOptions } from './commands/run.js';
import { defaultCostProfile, publishedCosts } from '../vm/clock/profiles.js';
import type { Context } from './context.js';
import { backendOption, integer } from './options.js';

const ownConf = join(projectRoot, 'fastio.conf');

type Act = (command: (context: Context) => Promise<number>) => Promise<void>;

/** Adds the commands that measure, judge and report. */
export function addSuiteCommands(program: Command, version: string, act: Act): void {
  measuringOptions(program.command('run').description('measure suites'), defaultCostProfile)
    .argument('<suite...>', 'names of the project’s suites, or paths of your own')
    .action((suites: string[], options: RunCommandOptions) =>
      act((c) =>
        here(options, suites.filter(isPath), c, async () =>
          (await import('./commands/run.js')).runCommandOf(suites, options, version, c),
        ),
      ),
    );

  measuringOptions(
    program
      .command('reproduce')
      .description('measure what the published claims are about and give a verdict on each'),
    publishedCosts,
  )
    .option('--also <suite...>', 'measure these suites as well: names, or paths of your own')
    .action((options: ReproduceCommandOptions) =>
      act((c) =>
        here(options, (options.also ?? []).filter(isPath), c, async () =>
          (await import('./commands/run.js')).reproduceCommand(options, version, c),
        ),
      ),
    );

  program
    .command('report')
    .description('write the report of a run anew')
    .argument('<dir>', 'directory of the run')
    .action((directory: string) =>
      act(async (c) => (await import('./commands/run.js')).reportCommand(directory, c)),
    );

  program
    .command('merge')
    .description('join the shards of one run')
    .argument('<dir...>', 'directories of the shards')
    .requiredOption('--out <dir>', 'directory for the whole')
    .action((directories: string[], options: { out: string }) =>
      act(async (c) => (await import('./commands/run.js')).mergeCommand(directories, options, c)),
    );

  program
    .command('compare')
    .description('compare run B against run A, with intervals; exit 1 when B is slower somewhere')
    .argument('<a>', 'directory of the run that is the yardstick')
    .argument('<b>', 'directory of the run that is judged')
    .option('--exact', 'runs in virtual time: exit 1 when any figure differs at all', false)
    .action((a: string, b: string, options: { exact: boolean }) =>
      act(async (c) => {
        const commands = await import('./commands/run.js');
        return options.exact ? commands.compareExactlyCommand(a, b, c) : commands.compareCommand(a, b, c);
      }),
    );

  program
    .command('bundle')
    .description('pack a run with its locks, hashes and how to repeat it, or check such an archive')
    .argument('[dir]', 'directory of the run')
    .option('--out <file>', 'the archive (default: <dir>.tar.gz)')
    .option('--verify <file>', 'check an archive instead')
    .action((directory: string | undefined, options: { out?: string; verify?: string }) =>
      act(async (c) => (await import('./commands/bundle.js')).bundle(directory, options, c)),
    );
}

/** Runs a measurement here or, where the back end is Docker, in a container. */
async function here(
  options: RunCommandOptions,
  suites: readonly string[],
  context: Context,
  work: () => Promise<number>,
): Promise<number> {
  // Where a container cannot be wanted, nothing about containers is loaded.
  if (options.backend === 'native') return await work();
  const { chooseBackend, forward } = await import('./backend.js');
  if ((await chooseBackend(options.backend, context)) === 'native') return await work();
  const { out, resume, claims, conf, accel } = options;
  const named = [out, resume, claims, conf === ownConf ? undefined : conf].filter(
    (path) => path !== undefined,
  );
  const argv = process.argv.slice(2);
  return await forward({ argv, paths: [...suites, ...named], accel }, context);
}

function isPath(suite: string): boolean {
  return /[/.]/.test(suite);
}

/** @param costs The command's own default, for the help. */
function measuringOptions(command: Command, costs: string): Command {
  return command
    .addOption(new Option('--profile <profile>', 'how much to measure').choices(profiles).default('quick'))
    .addOption(
      new Option(
        '--clock <clock>',
        'how time passes in the guest; auto: by the wall where hardware carries it, else virtual',
      )
        .choices(['auto', ...clocks])
        .default('auto'),
    )
    .option(
      '--costs <profile>',
      `what things cost in virtual time: ideal, neoverse-n1, neoverse-n1-far, emag (default: ${costs})`,
    )
    .option(
      '-j, --jobs <n>',
      'guests side by side in virtual time (default: as many as fit)',
      integer(1, 256),
    )
    .option(
      '--profile-lines',
      'also write, per run in virtual time, where nanoseconds and cache lines went (profiles/)',
      false,
    )
    .addOption(new Option('--accel <accel>', 'accelerator to use').choices(accelerators).default('auto'))
    .option('--require-accel', 'fail rather than fall back to emulation', false)
    .addOption(
      new Option('--arch <arch>', 'architecture of the guest').choices(architectures).default('arm64'),
    )
    .addOption(new Option('--kernel <series>', 'kernel series of the guest').choices(kernels).default('6.12'))
    .addOption(
      new Option('--qemu <which>', 'the pinned QEMU, or the one on PATH')
        .choices(['locked', 'host'])
        .default('locked'),
    )
    .option('--shard <i/n>', 'measure only part i of n; join the parts with `fastio merge`', shard)
    .option(
      '--seed <n>',
      'order of runs and perturbations; drawn and recorded when absent',
      integer(1, 2 ** 31),
    )
    .option('--out <dir>', 'directory for results (default: results/<date>-<n>)')
    .option('--resume <dir>', 'go on with an interrupted run')
    .option('--force', 'also measure points that need more CPUs than the guest has', false)
    .addOption(backendOption())
    .option('--conf <file>', 'fastio.conf to use', ownConf)
    .option('--claims <file>', 'claims to judge instead of the published ones');
}

function shard(text: string): Shard {
  const match = /^(\d{1,4})\/(\d{1,4})$/.exec(text);
  const index = Number(match?.[1] ?? 0);
  const count = Number(match?.[2] ?? 0);
  if (match !== null && index >= 1 && index <= count) return { index, count };
  throw new InvalidArgumentError('Expected I/N with I from 1 to N.');
}
