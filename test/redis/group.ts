import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { errnoOf } from '../../vm/errors.js';

export interface GroupResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program in a process group of its own, of which nothing is left when this settles: neither what the program
 * started in the background, nor the program itself when the signal is aborted or this process exits.
 */
export async function runGroup(argv: readonly string[], signal: AbortSignal): Promise<GroupResult> {
  signal.throwIfAborted();
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = (): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch (error) {
      // Nothing was left of it.
      if (errnoOf(error) !== 'ESRCH') throw error;
    }
  };
  process.once('exit', kill);
  signal.addEventListener('abort', kill);
  try {
    const output = Promise.all([text(child.stdout), text(child.stderr)]);
    const [status] = (await once(child, 'exit')) as [number | null];
    // Whoever still has the pipes would keep them open.
    kill();
    const [stdout, stderr] = await output;
    signal.throwIfAborted();
    return { status: status ?? 255, stdout, stderr };
  } finally {
    kill();
    process.off('exit', kill);
    signal.removeEventListener('abort', kill);
  }
}
