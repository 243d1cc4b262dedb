import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError } from '../errors.js';
import { run } from '../exec.js';
import type { Arch } from '../vm.js';
import { cachePath, tempBeside } from './cache.js';
import { loaderCommand, toolCommand } from './tools.js';

export interface SourceText {
  readonly name: string;
  readonly content: Buffer;
}

export interface Compilation {
  /** For messages: `the guest agent`, and where its sources are: `vm/guest`. */
  readonly what: string;
  readonly where: string;
  readonly arch: Arch;
  /** C sources and headers; the sources are compiled and linked in this order. */
  readonly sources: readonly SourceText[];
  /** Of the compiler, such as `-static`. */
  readonly flags: readonly string[];
  /** After the sources, such as `-lpthread`. */
  readonly libraries?: readonly string[];
}

/**
 * Compiles one program or shared object with the compilers' root but without entering it: the driver and what it
 * starts run through the root's own loader, so this works wherever Node does. The same bytes on every host.
 * @throws FastioError BUILD_FAILED with the compiler's messages.
 */
export async function compileC(job: Compilation, buildRoot: string, signal: AbortSignal): Promise<Buffer> {
  const { arch, sources, flags, libraries = [] } = job;
  const work = tempBeside(join(await cachePath('work'), 'compile'));
  const prefix = `usr/bin/${arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  try {
    await mkdir(join(work, 'tools'), { recursive: true });
    for (const { name, content } of sources) await writeFile(join(work, name), content);
    // The driver starts the assembler itself, through the wrapper. The linker is started by collect2, which knows
    // nothing of wrappers: it gets a script.
    await symlink(join(buildRoot, `${prefix}-as`), join(work, 'tools/as'));
    const ld = toolCommand(buildRoot, `${prefix}-ld`, []).map(shellQuote).join(' ');
    await writeFile(join(work, 'tools/ld'), `#!/bin/sh\nexec ${ld} "$@"\n`);
    await chmod(join(work, 'tools/ld'), 0o755);
    const result = await run(
      toolCommand(buildRoot, `${prefix}-gcc-14`, [
        ...['-wrapper', loaderCommand(buildRoot).join(',')],
        ...[`-B${join(work, 'tools')}`, `--sysroot=${buildRoot}`],
        ...flags,
        ...['-o', 'output'],
        ...sources.map(({ name }) => name).filter((name) => name.endsWith('.c')),
        ...libraries,
      ]),
      { signal, cwd: work, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', TMPDIR: work } },
    );
    if (result.status === 0) return await readFile(join(work, 'output'));
    throw new FastioError('BUILD_FAILED', `${job.what} does not compile`, `Correct ${job.where}.`, {
      detail: result.stderr.trimEnd().split('\n').slice(0, 20),
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
