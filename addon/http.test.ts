import { expect, it, jest } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { compiledAddon } from '../test/addon-programs.js';
import { buildAddon } from '../toolchain/addon.js';
import { run } from '../vm/exec.js';
import { hostArchitecture } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';

// Builds on first use.
jest.setTimeout(600_000);

const requests = 3_000;

/** What autocannon says of a run, as far as it is looked at. */
interface Report {
  readonly '2xx': number;
  readonly non2xx: number;
  readonly errors: number;
  readonly timeouts: number;
  /** Answers that were not what was expected. */
  readonly mismatches: number;
}

/** Loads it with autocannon, which was written by others and knows nothing of FastIO. */
async function load(port: number): Promise<Report> {
  const autocannon = join(projectRoot, 'node_modules/autocannon/autocannon.js');
  const words = `--json --connections 25 --amount ${requests} --timeout 60`.split(' ');
  const argv = [process.execPath, autocannon, ...words, '--expectBody', 'hello\n'];
  const { status, stdout, stderr } = await run([...argv, `http://127.0.0.1:${port}/`], {
    signal: AbortSignal.timeout(300_000),
  });
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as Report;
}

it.each([
  ['polling', '--workers=1'],
  ['hybrid', '--workers=1 --hybrid'],
  ['inline', '--workers=0'],
])('carries every HTTP request that an outside load tool sends to the example, %s', async (_, words) => {
  const example = join(compiledAddon, 'examples/http.js');
  const work = { report: silent, signal: new AbortController().signal };
  const server = spawn(process.execPath, [example, '--port=0', ...words.split(' ')], {
    env: {
      ...process.env,
      FASTIO_ADDON: await buildAddon(projectRoot, hostArchitecture(), 'release', work),
      FASTIO_BACKEND: 'user',
      FASTIO_QUIET: '1',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line] = (await once(createInterface(server.stdout), 'line')) as [string];
    const port = Number(/^READY port=(\d+)$/.exec(line)?.[1]);

    const report = await load(port);

    const faultless = { non2xx: 0, errors: 0, timeouts: 0, mismatches: 0 };
    expect(report).toMatchObject({ '2xx': requests, ...faultless });
    const exited = once(server, 'exit');
    server.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  } finally {
    server.kill('SIGKILL');
  }
});
