import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { projectRoot } from '../paths.js';
import type { Arch } from '../vm.js';
import { compileC, type SourceText } from './compile.js';

const flags = ['-static', '-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-s', '-Wl,--build-id=none'];

/** A source file of the guest agent. */
export type AgentSource = SourceText;

/** The guest agent's C sources and headers, in the order of their names. */
export async function agentSources(): Promise<readonly AgentSource[]> {
  const directory = join(projectRoot, 'vm/guest');
  const names = (await readdir(directory)).filter((name) => /\.[ch]$/.test(name)).sort();
  return await Promise.all(
    names.map(async (name) => ({ name, content: await readFile(join(directory, name)) })),
  );
}

/** Compiles the guest agent, statically. @throws FastioError BUILD_FAILED with the compiler's messages. */
export async function compileAgent(
  arch: Arch,
  sources: readonly AgentSource[],
  buildRoot: string,
  signal: AbortSignal,
): Promise<Buffer> {
  const job = { what: 'the guest agent', where: 'vm/guest', arch, sources, flags };
  return await compileC(job, buildRoot, signal);
}
