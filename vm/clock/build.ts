import { createHash } from 'node:crypto';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { cachePath, makeOnce } from '../image/cache.js';
import { compileC, type Compilation, type SourceText } from '../image/compile.js';
import { hostArchitecture, toolsRoot } from '../image/tools.js';
import type { Work } from '../image/work.js';
import { projectRoot } from '../paths.js';

/** The clock's two halves, compiled. */
export interface ClockBinaries {
  /** QEMU's plugin, for this host. */
  readonly plugin: string;
  /** The guest's tool, static, for arm64. */
  readonly tool: string;
}

const common = ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-Wl,--build-id=none'];

/**
 * Compiles plugin and guest tool with the locked compilers, or returns what was compiled before from the same sources.
 * @throws FastioError BUILD_FAILED with the compiler's messages.
 */
export async function buildClock(work: Work): Promise<ClockBinaries> {
  const root = await toolsRoot('build', work);
  const plugin: Compilation = {
    what: 'the virtual clock',
    where: 'vm/clock/plugin',
    arch: hostArchitecture(),
    sources: await sourcesIn('vm/clock/plugin'),
    flags: [...common, '-fPIC', '-fvisibility=hidden', '-shared'],
    libraries: ['-lpthread', '-ldl'],
  };
  const tool: Compilation = {
    what: "the virtual clock's guest tool",
    where: 'vm/clock/guest',
    arch: 'arm64',
    sources: await sourcesIn('vm/clock/guest'),
    flags: [...common, '-static', '-s'],
  };
  const directory = join(await cachePath('clock'), keyOf([plugin, tool], basename(root)));
  const binaries = { plugin: join(directory, 'clock.so'), tool: join(directory, 'vclock') };
  await makeOnce(directory, work.signal, async (temp) => {
    work.report({ kind: 'stage', name: 'compile', detail: 'virtual clock' });
    for (const [path, job] of [
      [binaries.plugin, plugin],
      [binaries.tool, tool],
    ] as const) {
      const output = join(temp, basename(path));
      await writeFile(output, await compileC(job, root, work.signal));
      await chmod(output, 0o755);
    }
  });
  return binaries;
}

async function sourcesIn(path: string): Promise<readonly SourceText[]> {
  const directory = join(projectRoot, path);
  const names = (await readdir(directory)).filter((name) => /\.[ch]$/.test(name)).sort();
  return await Promise.all(
    names.map(async (name) => ({ name, content: await readFile(join(directory, name)) })),
  );
}

function keyOf(jobs: readonly Compilation[], compilers: string): string {
  const hash = createHash('sha256').update(compilers);
  for (const { arch, flags, libraries, sources } of jobs) {
    hash.update(JSON.stringify([arch, flags, libraries]));
    for (const { name, content } of sources) hash.update(`\0${name}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex').slice(0, 16);
}
