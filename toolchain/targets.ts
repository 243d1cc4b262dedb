import { join, relative } from 'node:path';
import type { KernelHeaders } from '../vm/image/headers.js';
import { kernelHeaders } from '../vm/image/headers.js';
import { cacheDir } from '../vm/paths.js';
import type { Arch, KernelSeries } from '../vm/vm.js';
import type { BuildOptions, Built, Recipe } from './build.js';
import { build } from './build.js';
import type { SourceTree } from './sources.js';

/** Debian's name for the compilers of each target. */
const triplets: Readonly<Record<Arch, string>> = { arm64: 'aarch64-linux-gnu', x86_64: 'x86_64-linux-gnu' };
/** The kernel's name for each architecture. */
const kernelArchs: Readonly<Record<Arch, string>> = { arm64: 'arm64', x86_64: 'x86' };
/** Debian builds each kernel with the compiler of its release, and modules must use the same. */
const compilers: Readonly<Record<KernelSeries, string>> = { '6.12': '14', '6.1': '12' };

export interface ModuleSource {
  /** The directory with the Kbuild file. */
  readonly directory: string;
  /** The module is `<name>.ko` in that directory. */
  readonly name: string;
  readonly arch: Arch;
  readonly kernel: KernelSeries;
}

export interface BuiltModule extends Built {
  readonly path: string;
  /** The kernel it was built for, as `uname -r` prints it. */
  readonly kernelRelease: string;
}

/** Builds an out-of-tree module against the guest kernel's own headers. */
export async function buildModule(module: ModuleSource, options: BuildOptions): Promise<BuiltModule> {
  const headers = await kernelHeaders(module, options);
  const make = ['make', '-j4', '-C', headers.kdir, 'M=/src', ...kbuildVariables(module, options), 'modules'];
  const built = await build(
    {
      name: `${module.name}.ko`,
      arch: module.arch,
      sources: [{ directory: module.directory }],
      commands: [make],
      outputs: [`${module.name}.ko`],
      ...headersOf(headers),
    },
    options,
  );
  return { ...built, path: join(built.directory, `${module.name}.ko`), kernelRelease: headers.kernelRelease };
}

/** What make has to be told to build for the module's kernel with the compiler that kernel was built with. */
export function kbuildVariables(module: ModuleSource, options: BuildOptions): readonly string[] {
  const cross = options.inGuest === undefined ? `${triplets[module.arch]}-` : '';
  return [
    ...(cross === '' ? [] : [`ARCH=${kernelArchs[module.arch]}`, `CROSS_COMPILE=${cross}`]),
    `CC=${cross}gcc-${compilers[module.kernel]}`,
    // The guest's vmlinux carries no BTF a module could be split from; without this pahole is asked at the last step.
    'CONFIG_DEBUG_INFO_BTF_MODULES=',
  ];
}

/** The part of a recipe that makes a kernel's headers visible to it, and its result depend on them. */
export function headersOf(headers: KernelHeaders): Pick<Recipe, 'binds' | 'inputs'> {
  return {
    binds: [{ host: headers.usrSrc, inside: '/usr/src' }],
    // The directory is named by the hash of the headers' lock.
    inputs: [relative(cacheDir(), headers.usrSrc)],
  };
}

export interface ProgramSource {
  readonly name: string;
  readonly arch: Arch;
  readonly trees: readonly SourceTree[];
  /** Directory below /src whose Makefile is run. */
  readonly makeIn?: string;
  readonly makeArgs?: readonly string[];
  readonly outputs: readonly string[];
}

/** Names of the cross tools in the variables make knows. */
export function compilerEnv(arch: Arch): Readonly<Record<string, string>> {
  const tool = (name: string): string => `${triplets[arch]}-${name}`;
  return {
    CC: tool('gcc-14'),
    CXX: tool('g++-14'),
    AR: tool('ar'),
    RANLIB: tool('ranlib'),
    STRIP: tool('strip'),
  };
}

const guestCompilers = { CC: 'gcc-14', CXX: 'g++-14', AR: 'ar', RANLIB: 'ranlib', STRIP: 'strip' };

/** Builds user programs with make; the Makefile honours CC, CXX, AR, RANLIB and STRIP. */
export async function buildC(program: ProgramSource, options: BuildOptions): Promise<Built> {
  const compilers = options.inGuest === undefined ? compilerEnv(program.arch) : guestCompilers;
  const recipe: Recipe = {
    name: program.name,
    arch: program.arch,
    sources: program.trees,
    commands: [
      [
        'make',
        '-j4',
        ...(program.makeIn === undefined ? [] : ['-C', program.makeIn]),
        ...Object.entries(compilers).map(([name, value]) => `${name}=${value}`),
        ...(program.makeArgs ?? []),
      ],
    ],
    outputs: program.outputs,
  };
  return build(recipe, options);
}
