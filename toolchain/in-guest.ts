import { join } from 'node:path';
import type { Vm } from '../vm/vm.js';
import type { BuildOptions, Recipe } from './build.js';
import { buildFailed } from './build.js';

/** A module of 1,600 lines takes two minutes under emulation; this is the time on hardware. */
const commandTimeoutMs = 300_000;

/**
 * Runs a recipe's commands in a guest of the target's architecture, with the guest's own compiler and headers, and
 * brings the outputs back into `src`.
 * @returns the log.
 */
export async function buildInGuest(
  vm: Vm,
  recipe: Recipe,
  src: string,
  options: BuildOptions,
): Promise<string> {
  const { report, signal } = options;
  await vm.exec(['rm', '-rf', '/src'], { signal });
  await vm.push(src, '/src', { signal });
  let log = '';
  for (const command of recipe.commands) {
    const decoder = new TextDecoder();
    let rest = '';
    const onOutput = (chunk: Uint8Array): void => {
      const text = decoder.decode(chunk, { stream: true });
      log += text;
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) report({ kind: 'line', from: 'build', text: line });
    };
    log += `$ ${command.join(' ')}\n`;
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', ...recipe.env };
    const result = await vm.exec(command, {
      cwd: '/src',
      env,
      signal,
      timeoutMs: commandTimeoutMs,
      onStdout: onOutput,
      onStderr: onOutput,
    });
    if (result.status !== 0) throw buildFailed(recipe, command, result.status, log);
  }
  for (const output of recipe.outputs) await vm.pull(`/src/${output}`, join(src, output), { signal });
  return log;
}
