import { join } from 'node:path';
import type { BuildOptions } from '../../toolchain/build.js';
import { buildC } from '../../toolchain/targets.js';
import { projectRoot } from '../../vm/paths.js';
import type { Arch } from '../../vm/vm.js';

/** Programs that every supported kernel and architecture must pass. */
export const basicPrograms = [
  'abi_setup',
  'abi_ioctl',
  'abi_sqe',
  'abi_access',
  'ops_sock',
  'ops_conn',
  'ops_ctl',
  'ops_file',
  'ops_multi',
  'scenarios',
] as const;

/** Programs that take longer, for the default kernel and architecture. The module is reloaded by the last. */
export const longPrograms = ['traffic', 'lifecycle', 'fuzz_rings', 'fuzz_races', 'module'] as const;

/** libfastio's own tests, which run the same against the module as against the user-space back end. */
export const libraryPrograms = ['ring', 'life', 'socket', 'file', 'buffer', 'misuse', 'echo'] as const;

/** Builds the static test programs of kmod/tests, those that need a clock of their own included. Returns their directory. */
export async function buildKmodTests(arch: Arch, options: BuildOptions): Promise<string> {
  const programs = [...basicPrograms, ...longPrograms, 'responsive', 'bench-icount'];
  const kmod = join(projectRoot, 'kmod');
  const built = await buildC(
    {
      name: 'kmod-tests',
      arch,
      trees: [
        { directory: join(kmod, 'tests'), mount: 'tests' },
        { directory: join(kmod, 'include'), mount: 'include' },
      ],
      makeIn: 'tests',
      outputs: programs.map((program) => `tests/build/${program}`),
    },
    options,
  );
  return join(built.directory, 'tests/build');
}

/** Builds libfastio's tests as static programs. Returns their directory. */
export async function buildLibraryTests(arch: Arch, options: BuildOptions): Promise<string> {
  const built = await buildC(
    {
      name: 'libfastio-tests',
      arch,
      trees: [
        { directory: join(projectRoot, 'lib'), mount: 'lib' },
        { directory: join(projectRoot, 'kmod/include'), mount: 'kmod/include' },
      ],
      makeIn: 'lib',
      makeArgs: ['STATIC=1', 'LDFLAGS=-s', 'tests'],
      outputs: libraryPrograms.map((program) => `lib/build/release/tests/${program}`),
    },
    options,
  );
  return join(built.directory, 'lib/build/release/tests');
}
