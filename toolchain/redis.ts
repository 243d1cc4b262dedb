import { join } from 'node:path';
import { serverSources } from '../vm/image/source-package.js';
import type { Arch } from '../vm/vm.js';
import type { Placed } from './artifacts.js';
import type { BuildOptions } from './build.js';
import type { SourceTree } from './sources.js';
import { buildC } from './targets.js';

/** The servers there are modules for. */
export const redisServers = ['valkey', 'redis'] as const;
export type RedisServer = (typeof redisServers)[number];

/** What of a server's sources its headers are spread over. */
const headers = [
  'src',
  ...['hiredis', 'linenoise', 'lua', 'hdr_histogram', 'fpconv', 'fast_float'].map((name) => `deps/${name}`),
];

/** What tests preload into servers: `preload` is needed with the address sanitizer, `vanish` takes their rings away. */
export type TestLibrary = 'preload' | 'vanish';

/**
 * The modules for Debian's Valkey and Redis, and libraries for their tests. `asan` has address and undefined-behaviour
 * checks.
 */
export async function redisModules(
  projectRoot: string,
  arch: Arch,
  options: BuildOptions,
  flavour: 'release' | 'asan' = 'release',
  libraries: readonly TestLibrary[] = [],
): Promise<readonly Placed[]> {
  const sources = await serverSources(options);
  const trees: readonly SourceTree[] = [
    { directory: join(projectRoot, 'redis'), mount: 'redis' },
    { directory: join(projectRoot, 'lib'), mount: 'lib' },
    { directory: join(projectRoot, 'kmod/include'), mount: 'kmod/include' },
    ...redisServers.map((name) => ({
      directory: join(sources, name),
      include: headers,
      mount: `servers/${name}`,
    })),
  ];
  const names = [
    ...redisServers.map((name) => `fastio-${name}.so`),
    ...libraries.map((name) => `${name}.so`),
  ];
  const outputs = names.map((name) => `redis/build/${flavour}/${name}`);
  const built = await buildC(
    {
      name: 'redis modules',
      arch,
      trees,
      makeIn: 'redis',
      makeArgs: [`FLAVOUR=${flavour}`, 'all', 'preload'],
      outputs,
    },
    options,
  );
  return names.map((name, index) => ({
    from: join(built.directory, outputs[index] ?? ''),
    to: `modules/${name}`,
  }));
}
