#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { projectRoot } from '../vm/paths.js';
import { architectures, kernels } from '../vm/vm.js';
import type { LoadCommandOptions } from './commands/load.js';
import type { TryOptions } from './commands/try.js';
import type { Context, GlobalOptions } from './context.js';
import { runCommand } from './context.js';
import { exitCodes } from './exit.js';
import type { Backend, GuestOptions } from './options.js';
import { backendOption, guestOptions, integer, nameOption } from './options.js';
import { addSuiteCommands } from './suite-commands.js';

const version = versionOf(join(projectRoot, 'package.json'));

/** Commands are loaded when they are run, so that `fastio exec` does not wait for what only `fastio up` needs. */
const program = new Command('fastio')
  .description('A reproducible testbed for asynchronous kernel I/O: guests, builds, measurements, verdicts.')
  .version(version)
  .option('--json', 'print the result as JSON on stdout, and progress as JSON lines on stderr')
  .option('-v, --verbose', 'also show what builds and guests print')
  .option('-q, --quiet', 'show no progress')
  .showHelpAfterError('(add --help for usage)')
  .showSuggestionAfterError()
  .exitOverride()
  .addHelpText(
    'after',
    '\nExit codes: 0 good; 1 something ran and failed; 2 bad usage or input; 3 the environment cannot do it;\n' +
      '4 the guest kernel warned, oopsed, hung or died. Ctrl-C ends with 130.',
  );

async function act(command: (context: Context) => Promise<number>): Promise<void> {
  await runCommand(program.opts<GlobalOptions>(), command);
}

program
  .command('doctor')
  .description('try everything a run needs and say what is missing')
  .addOption(backendOption())
  .action((options: { backend: Backend }) =>
    act(async (c) => {
      if (options.backend !== 'docker') return (await import('./commands/doctor.js')).doctor(options, c);
      const { forward } = await import('./backend.js');
      return forward({ argv: process.argv.slice(2), paths: [], accel: 'auto' }, c);
    }),
  );

guestOptions(program.command('up').description('start a guest that stays until `fastio down`')).action(
  (options: GuestOptions) => act(async (c) => (await import('./commands/guest.js')).up(options, c)),
);

program
  .command('down')
  .description('power a guest off')
  .addOption(nameOption())
  .option('--all', 'every guest of yours')
  .action((options: { name: string; all?: boolean }) =>
    act(async (c) => (await import('./commands/guest.js')).down(options, c)),
  );

program
  .command('status')
  .description('list your guests')
  .action((options: unknown) => act(async (c) => (await import('./commands/guest.js')).status(options, c)));

program
  .command('exec')
  .description(
    'run a command in the guest; its exit code becomes ours, or 4 when the guest kernel complained',
  )
  .argument('<command...>', 'what to run, after --')
  .addOption(nameOption())
  .option('-n, --no-stdin', 'give the command no standard input')
  .option('--timeout <seconds>', 'stop the command after this long', integer(1, 86_400))
  .option('--cwd <dir>', 'directory in the guest to run in')
  .option('--env <KEY=VALUE>', 'set a variable for the command (repeatable)', environment, {})
  .action(
    (
      argv: string[],
      options: { name: string; stdin: boolean; timeout?: number; cwd?: string; env: Record<string, string> },
    ) => act(async (c) => (await import('./commands/guest.js')).exec(argv, options, c)),
  );

program
  .command('load')
  .description('build the module and put it into the guest, in place of the one that is there')
  .addOption(nameOption())
  .addOption(
    new Option('--build <where>', 'with the locked cross compilers, or with the guest’s own')
      .choices(['cross', 'in-guest'])
      .default('cross'),
  )
  .option('--in-guest', 'short for --build in-guest')
  .option('--module <dir>', 'a module of your own: a directory with a Kbuild file (needs --as)')
  .option('--as <name>', 'its name, without .ko')
  .option('--param <key=value>', 'module parameter (repeatable)', collect, [])
  .action((options: LoadCommandOptions & { readonly inGuest?: boolean }) =>
    act(async (c) => {
      const build = options.inGuest === true ? 'in-guest' : options.build;
      return (await import('./commands/load.js')).load({ ...options, build }, c);
    }),
  );

guestOptions(program.command('try').description('boot a guest, load a module, run a command, power off'))
  .argument('<command...>', 'what to run in the guest, after --; its exit code becomes ours')
  .requiredOption('--module <dir>', 'a module of your own: a directory with a Kbuild file')
  .requiredOption('--as <name>', 'its name, without .ko')
  .option('--files <dir>', 'a directory that the guest gets, and runs the command in')
  .option('--param <key=value>', 'module parameter (repeatable)', collect, [])
  .option('--timeout <seconds>', 'stop the command after this long', integer(1, 86_400), 600)
  .action((argv: string[], options: TryOptions) =>
    act(async (c) => (await import('./commands/try.js')).tryModule(argv, options, c)),
  );

program
  .command('shell')
  .description('ssh into the guest')
  .argument('[command...]', 'run this instead of a login shell')
  .addOption(nameOption())
  .action((argv: string[], options: { name: string }) =>
    act(async (c) => (await import('./commands/shell.js')).shell(argv, options, c)),
  );

program
  .command('logs')
  .description('show what the guest wrote')
  .addOption(nameOption())
  .addOption(
    new Option('--source <source>', 'which log').choices(['console', 'kernel', 'qemu']).default('console'),
  )
  .option('-f, --follow', 'go on until Ctrl-C', false)
  .action((options: { name: string; source: 'console' | 'kernel' | 'qemu'; follow: boolean }) =>
    act(async (c) => (await import('./commands/guest.js')).logs(options, c)),
  );

program
  .command('cp')
  .description('copy files and directories into or out of a guest')
  .argument('<from>', 'PATH here, or [NAME]:PATH in a guest')
  .argument('<to>', 'PATH here, or [NAME]:PATH in a guest')
  .action((from: string, to: string) =>
    act(async (c) => (await import('./commands/guest.js')).cp(from, to, c)),
  );

addSuiteCommands(program, version, act);

const image = program.command('image').description('the guest’s image and its lock files');
for (const [name, description] of [
  ['build', 'build the guest image, unless the cache has it'],
  ['verify', 'build the image once more and compare every byte'],
] as const) {
  image
    .command(name)
    .description(description)
    .addOption(
      new Option('--arch <arch>', 'architecture of the guest').choices(architectures).default('arm64'),
    )
    .addOption(new Option('--kernel <series>', 'kernel series').choices(kernels).default('6.12'))
    .action((options: { arch: (typeof architectures)[number]; kernel: (typeof kernels)[number] }) =>
      act(async (c) => {
        const commands = await import('./commands/image.js');
        return name === 'build' ? commands.imageBuild(options, c) : commands.imageVerify(options, c);
      }),
    );
}
image
  .command('box')
  .description('write a Vagrant box (libvirt) of the image, with FastIO’s module loaded at boot')
  .addOption(
    new Option('--arch <arch>', 'architecture of the guest')
      .choices(architectures)
      .default(process.arch === 'arm64' ? 'arm64' : 'x86_64', 'this machine’s'),
  )
  .addOption(new Option('--kernel <series>', 'kernel series').choices(kernels).default('6.12'))
  .option('--out <file>', 'file to write', 'fastio.box')
  .action(
    (options: { arch: (typeof architectures)[number]; kernel: (typeof kernels)[number]; out: string }) =>
      act(async (c) => (await import('./commands/box.js')).imageBox(options, c)),
  );
image
  .command('lock')
  .description('write the lock files anew from today’s Debian (needs apt)')
  .argument('[id...]', 'lock files, such as guest-arm64; all without one')
  .option('--mirror <url>', 'Debian mirror to ask')
  .action((ids: string[], options: { mirror?: string }) =>
    act(async (c) => (await import('./commands/image.js')).imageLock(ids, options, c)),
  );

program
  .command('clean')
  .description('remove everything the cache holds that no guest is using')
  .option('--dry-run', 'only say what would go', false)
  .action((options: { dryRun: boolean }) =>
    act(async (c) => (await import('./commands/image.js')).clean(options, c)),
  );

function collect(word: string, previous: readonly string[]): readonly string[] {
  return [...previous, word];
}

function environment(
  text: string,
  previous: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(text);
  if (match === null) throw new InvalidArgumentError('Expected KEY=VALUE.');
  return { ...previous, [match[1] ?? '']: match[2] ?? '' };
}

function versionOf(packageJson: string): string {
  const { version } = JSON.parse(readFileSync(packageJson, 'utf8')) as { version: string };
  return version;
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Commander has printed the message already; help and --version end well.
  process.exitCode = error.exitCode === 0 ? exitCodes.good : exitCodes.usage;
}
