import { expect } from '@jest/globals';
import type { Work } from '../../vm/image/work.js';
import { silent } from '../../vm/progress.js';
import { until } from '../../vm/wait.js';
import { command } from './client.js';
import { startServer, type RunningServer, type ServerSpec } from './server.js';

/**
 * For tests of Debian's servers on this host, with libfastio's user-space back end where the module's device is not there,
 * and with the module under sanitizers.
 */
export const work: Work = { report: silent, signal: new AbortController().signal };

export const modes = {
  workers: 'backend user workers 2',
  inline: 'backend user workers 0',
  hybrid: 'backend user workers 1 hybrid 4',
};

/** Each mode and each server, if not each with each. */
export const cases = [
  { server: 'valkey', mode: 'workers' },
  { server: 'valkey', mode: 'hybrid' },
  { server: 'redis', mode: 'inline' },
] as const;

export function start(spec: ServerSpec): Promise<RunningServer> {
  return startServer({ flavour: 'asan', ...spec }, work);
}

/** Waits until a probe holds; the test's own time limit ends it. */
export async function eventually(probe: () => Promise<boolean>): Promise<void> {
  await until(probe, { everyMs: 50, signal: AbortSignal.timeout(120_000) });
}

/** Ends a server in order: what the sanitizers found makes the status. */
export async function stop(server: RunningServer): Promise<void> {
  const client = await server.client();
  client.send(command('SHUTDOWN', 'NOSAVE'));
  const { status } = await server.ended;
  expect({ status, log: status === 0 ? '' : server.log().slice(-4_000) }).toEqual({ status: 0, log: '' });
}
