import { createHash } from 'node:crypto';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FastioError, errnoOf } from '../vm/errors.js';
import { run } from '../vm/exec.js';
import { cachePath, makeOnce } from '../vm/image/cache.js';
import { toolsRoot } from '../vm/image/tools.js';
import type { Report } from '../vm/progress.js';
import type { Arch, Vm } from '../vm/vm.js';
import { buildInGuest } from './in-guest.js';
import type { SourceFile, SourceTree } from './sources.js';
import { copySources, hashSources, listSources } from './sources.js';
import type { Bind } from './ways.js';
import { chooseWay, enter, prepareRoot } from './ways.js';

/** What to build, from what, with which command. Equal recipes over equal sources give equal bytes. */
export interface Recipe {
  /** For progress and errors: `kmod`, `echo`. */
  readonly name: string;
  readonly arch: Arch;
  readonly sources: readonly SourceTree[];
  /** Run one after the other in /src; all must succeed. */
  readonly commands: readonly (readonly string[])[];
  /** Files below /src that are the result. */
  readonly outputs: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Host directories a cross build sees read-only; the in-guest build has its own at the same place. */
  readonly binds?: readonly Omit<Bind, 'writable'>[];
  /** Hashes of what `binds` hold, such as a lock file's. */
  readonly inputs?: readonly string[];
}

export interface BuildOptions {
  readonly report: Report;
  readonly signal: AbortSignal;
  /** The guest that builds, when it shall not be the locked cross compilers. */
  readonly inGuest?: Vm;
}

export interface Built {
  /** Holds the outputs at their paths below /src, and build.log. */
  readonly directory: string;
  readonly cached: boolean;
}

/** Bump when the way a recipe is carried out changes what comes out. */
const toolchainVersion = 1;

/**
 * Builds a recipe, or returns what an equal one made before.
 * @throws FastioError BUILD_FAILED with the compiler's last lines; BUILD_WAY_MISSING when the host forbids all ways.
 */
export async function build(recipe: Recipe, options: BuildOptions): Promise<Built> {
  const files = await listSources(recipe.sources);
  const directory = join(await cachePath('builds'), await keyOf(recipe, files, options));
  const made = await makeOnce(directory, options.signal, async (out) => {
    options.report({ kind: 'stage', name: `build ${recipe.name}`, detail: recipe.arch });
    // Beside the outputs, so that killing the build leaves nothing that is not swept with them.
    const src = join(out, '.src');
    await mkdir(src);
    await copySources(files, src);
    const log =
      options.inGuest === undefined
        ? await buildInRoot(recipe, src, options)
        : await buildInGuest(options.inGuest, recipe, src, options);
    await collect(recipe, src, out);
    await writeFile(join(out, 'build.log'), log);
    await rm(src, { recursive: true });
  });
  return { directory, cached: !made };
}

async function keyOf(recipe: Recipe, files: readonly SourceFile[], options: BuildOptions): Promise<string> {
  const { inGuest } = options;
  // A tools root's directory is named by the hash of its lock.
  const compilers =
    inGuest === undefined
      ? basename(await toolsRoot('build', options))
      : `guest ${inGuest.info.kernelRelease}`;
  const { arch, commands, outputs, env = {}, inputs = [] } = recipe;
  const identity = { toolchainVersion, arch, commands, outputs, env, inputs, compilers };
  return createHash('sha256')
    .update(JSON.stringify(identity))
    .update(await hashSources(files))
    .digest('hex');
}

async function buildInRoot(recipe: Recipe, src: string, { report, signal }: BuildOptions): Promise<string> {
  const roots = {
    run: await toolsRoot('run', { report, signal }),
    build: await toolsRoot('build', { report, signal }),
  };
  const binds: Bind[] = [
    { host: src, inside: '/src', writable: true },
    ...(recipe.binds ?? []).map((bind) => ({ ...bind, writable: false })),
  ];
  await prepareRoot(roots.build, binds);
  const way = await chooseWay(roots, signal);
  let log = '';
  for (const command of recipe.commands) {
    const sandbox = { binds, cwd: '/src', env: recipe.env ?? {} };
    const onLine = (text: string): void => {
      report({ kind: 'line', from: 'build', text });
    };
    const result = await run(enter(way, roots, sandbox, command), { signal, onLine });
    log += `$ ${command.join(' ')}\n${result.stdout}${result.stderr}`;
    if (result.status !== 0) throw buildFailed(recipe, command, result.status, log);
  }
  return log;
}

/** The error of a command that said no, with the end of its log. */
export function buildFailed(
  recipe: Recipe,
  command: readonly string[],
  status: number,
  log: string,
): FastioError {
  return new FastioError(
    'BUILD_FAILED',
    `building ${recipe.name} for ${recipe.arch}: ${command[0] ?? ''} ended with status ${status}`,
    'Mend the first error above and build again.',
    { detail: log.trimEnd().split('\n').slice(-40) },
  );
}

async function collect(recipe: Recipe, src: string, out: string): Promise<void> {
  for (const output of recipe.outputs) {
    const target = join(out, output);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(join(src, output), target).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
      throw new FastioError(
        'BUILD_FAILED',
        `building ${recipe.name}: the commands succeeded, but ${output} is not there`,
        'Correct the recipe’s outputs.',
      );
    });
  }
}
