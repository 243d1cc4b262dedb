import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { kernelHeaders } from '../vm/image/headers.js';
import { hostArchitecture } from '../vm/image/tools.js';
import type { BuildOptions } from './build.js';
import { build } from './build.js';
import type { SourceTree } from './sources.js';
import type { ModuleSource } from './targets.js';
import { compilerEnv, headersOf, kbuildVariables } from './targets.js';

/** C sources that test themselves. */
export interface CheckedProgram {
  readonly name: string;
  readonly trees: readonly SourceTree[];
  /** Directory below /src whose Makefile has the target. */
  readonly makeIn: string;
  /** Default: `check`. */
  readonly target?: string;
}

/**
 * Runs `make check` in the locked root, with the locked compilers, for this host's architecture. Tests that passed once
 * are not run again until a source changes.
 * @returns what the tests printed.
 * @throws FastioError BUILD_FAILED with the lines around each failure.
 */
export async function checkC(program: CheckedProgram, options: BuildOptions): Promise<string> {
  const { name, trees, makeIn, target = 'check' } = program;
  const make = ['make', '-C', makeIn, ...Object.entries(compilerEnv(hostArchitecture())).map(assign), target];
  // The whole log is kept beside the outputs; of a failure the lines that say so come last.
  const script =
    `${make.join(' ')} >check.log 2>&1 || ` +
    '{ status=$?; tail -n 30 check.log; grep -B 10 -A 12 "^not ok" check.log | tail -n 200; exit $status; }';
  const built = await build(
    {
      name: `${name} tests`,
      arch: hostArchitecture(),
      sources: trees,
      commands: [['sh', '-c', script]],
      outputs: ['check.log'],
    },
    options,
  );
  return readFile(join(built.directory, 'check.log'), 'utf8');
}

/**
 * Runs `make check` of a kernel module for one kernel: all warnings of compiler and sparse, and kernel-doc. What passed
 * once is not checked again until a source changes.
 * @returns what the tools said.
 * @throws FastioError BUILD_FAILED with their last lines.
 */
export async function checkModule(module: ModuleSource, options: BuildOptions): Promise<string> {
  const headers = await kernelHeaders(module, options);
  const make = ['make', '-C', '/src', `KDIR=${headers.kdir}`, ...kbuildVariables(module, options), 'check'];
  const built = await build(
    {
      name: `${module.name}.ko check`,
      arch: module.arch,
      sources: [{ directory: module.directory }],
      commands: [make],
      outputs: [],
      ...headersOf(headers),
    },
    options,
  );
  return readFile(join(built.directory, 'build.log'), 'utf8');
}

function assign([name, value]: readonly [string, string]): string {
  return `${name}=${value}`;
}
