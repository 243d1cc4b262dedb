import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { cachePath, makeOnce } from '../vm/image/cache.js';
import type { Arch } from '../vm/vm.js';
import type { BuildOptions } from './build.js';
import { build } from './build.js';
import { buildC, compilerEnv } from './targets.js';
import type { SourceTree } from './sources.js';

/** A file of the host and the place it gets in a guest's directory of artifacts. */
export interface Placed {
  readonly from: string;
  readonly to: string;
}

/** The echo servers, the generator and the one that measures under another's, linked statically so that they run in any guest. */
export async function echoPrograms(
  projectRoot: string,
  arch: Arch,
  options: BuildOptions,
): Promise<readonly Placed[]> {
  const outputs = ['epoll', 'io_uring', 'fastio', 'load', 'load_by'].map(
    (name) => `echo/build/release-static/${name}`,
  );
  const trees: readonly SourceTree[] = [
    { directory: join(projectRoot, 'echo'), mount: 'echo' },
    { directory: join(projectRoot, 'lib'), mount: 'lib' },
    { directory: join(projectRoot, 'kmod/include'), mount: 'kmod/include' },
  ];
  const built = await buildC(
    { name: 'echo', arch, trees, makeIn: 'echo', makeArgs: ['STATIC=1'], outputs },
    options,
  );
  return outputs.map((path) => ({ from: join(built.directory, path), to: `bin/${basename(path)}` }));
}

/** Sources of somebody's own: a directory, the shell command that builds in a copy of it, and what to take. */
export interface OwnSource {
  readonly name: string;
  readonly directory: string;
  readonly build?: string;
  readonly files: readonly string[];
}

/** Builds somebody's own sources and places the files below `to`. */
export async function ownPrograms(
  source: OwnSource,
  arch: Arch,
  to: string,
  options: BuildOptions,
): Promise<readonly Placed[]> {
  const built = await build(
    {
      name: source.name,
      arch,
      sources: [{ directory: source.directory }],
      commands: source.build === undefined ? [] : [['sh', '-ec', source.build]],
      outputs: source.files,
      env: compilerEnv(arch),
    },
    options,
  );
  return source.files.map((file) => ({ from: join(built.directory, file), to: join(to, file) }));
}

/** Lays files out below one directory of the cache, named by what is in it. */
export async function layOut(
  files: readonly Placed[],
  signal: AbortSignal,
): Promise<{ readonly directory: string; readonly sha256: Readonly<Record<string, string>> }> {
  const sha256: Record<string, string> = {};
  for (const { from, to } of [...files].sort((a, b) => (a.to < b.to ? -1 : 1))) {
    sha256[to] = createHash('sha256')
      .update(await readFile(from))
      .digest('hex');
  }
  const key = createHash('sha256').update(JSON.stringify(sha256)).digest('hex');
  const directory = join(await cachePath('artifacts'), key);
  await makeOnce(directory, signal, async (temp) => {
    for (const { from, to } of files) {
      await mkdir(dirname(join(temp, to)), { recursive: true });
      await copyFile(from, join(temp, to));
    }
  });
  return { directory, sha256 };
}
