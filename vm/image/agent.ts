import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError } from '../errors.js';
import { run } from '../exec.js';
import { projectRoot } from '../paths.js';
import type { Arch } from '../vm.js';
import { cachePath, tempBeside } from './cache.js';
import { loaderCommand, toolCommand } from './tools.js';

const flags = ['-static', '-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-s', '-Wl,--build-id=none'];

/** A source file of the guest agent. */
export interface AgentSource {
  readonly name: string;
  readonly content: Buffer;
}

/** The guest agent's C sources and headers, in the order of their names. */
export async function agentSources(): Promise<readonly AgentSource[]> {
  const directory = join(projectRoot, 'vm/guest');
  const names = (await readdir(directory)).filter((name) => /\.[ch]$/.test(name)).sort();
  return await Promise.all(
    names.map(async (name) => ({ name, content: await readFile(join(directory, name)) })),
  );
}

/**
 * Compiles the guest agent, statically, with the compilers' root but without entering it: the driver and what it
 * starts run through the root's own loader, so this works wherever Node does. The same bytes on every host.
 * @throws FastioError BUILD_FAILED with the compiler's messages.
 */
export async function compileAgent(
  arch: Arch,
  sources: readonly AgentSource[],
  buildRoot: string,
  signal: AbortSignal,
): Promise<Buffer> {
  const work = tempBeside(join(await cachePath('work'), 'agent'));
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
        ...[
          ...flags,
          '-o',
          'agent',
          ...sources.map(({ name }) => name).filter((name) => name.endsWith('.c')),
        ],
      ]),
      { signal, cwd: work, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', TMPDIR: work } },
    );
    if (result.status === 0) return await readFile(join(work, 'agent'));
    throw new FastioError('BUILD_FAILED', 'the guest agent does not compile', 'Correct vm/guest.', {
      detail: result.stderr.trimEnd().split('\n').slice(0, 20),
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
