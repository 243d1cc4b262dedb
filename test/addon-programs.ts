import { join } from 'node:path';
import { run } from '../vm/exec.js';
import { projectRoot } from '../vm/paths.js';

/** The addon's test programs, and how many tests each has: where fewer ran, some were lost. */
export const addonTests = {
  'bad-input': 37,
  refused: 10,
  ring: 14,
  abort: 5,
  safety: 18,
  server: 12,
  connection: 14,
} as const;
export type AddonTests = keyof typeof addonTests;

/** Where the programs are that were compiled. */
export const compiledAddon = join(projectRoot, 'dist/addon');

/** Says which tests failed, or why there are fewer; empty when all is well. */
export function faultsOf(output: string, tests: number): string {
  const passed = Number(/^# pass (\d+)$/m.exec(output)?.[1] ?? 0);
  if (output.includes('\n# fail 0\n') && passed >= tests) return '';
  return `${passed} tests passed, expected ${tests} or more\n${fromFirstFault(output)}`;
}

function fromFirstFault(output: string): string {
  const at = output.search(/^ *not ok|ERROR: AddressSanitizer|runtime error/m);
  return output.slice(Math.max(at, 0)).slice(0, 4_000);
}

export interface HowToRun {
  /** Path of Node; without it the one that runs this. */
  readonly node?: string;
  /** Added to this process's. Without a back end in it the program gets the user-space one. */
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * Runs a compiled program of the addon's; what it printed, both streams.
 * @throws Error with the first thing that went wrong, when its status is not 0.
 */
export async function runAddonProgram(
  { node = process.execPath, environment }: HowToRun,
  file: string,
  args: readonly string[] = [],
): Promise<string> {
  const env = { FASTIO_BACKEND: 'user', FASTIO_QUIET: '1', ...environment };
  const assignments = Object.entries(env).map(([key, value]) => `${key}=${value}`);
  const argv = ['env', ...assignments, node, '--test-reporter=tap', file, ...args];
  const { status, stdout, stderr } = await run(argv, { signal: AbortSignal.timeout(600_000) });
  const output = stdout + stderr;
  if (status !== 0) throw new Error(`${file} ended with status ${status}:\n${fromFirstFault(output)}`);
  return output;
}
