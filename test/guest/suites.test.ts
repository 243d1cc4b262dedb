import { beforeAll, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { resultsHash } from '../../suites/judge/results.js';
import { loadResults } from '../../suites/schema/load.js';
import type { Results } from '../../suites/schema/results.js';
import { projectRoot } from '../../vm/paths.js';
import { hostTemp } from './guest.js';

const command = join(projectRoot, 'dist/cli/main.js');
const suite = join(projectRoot, 'test/guest/suites/small.yaml');

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command as a user does; `onLine` sees its progress and may interrupt it. */
async function fastio(
  args: readonly string[],
  onLine: (line: string, interrupt: () => void) => void = () => undefined,
): Promise<Ended> {
  const child = spawn(
    process.execPath,
    [command, 'run', suite, '--clock', 'virtual', '--seed', '7', ...args],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  createInterface(child.stderr).on('line', (line) => {
    stderr += `${line}\n`;
    onLine(line, () => child.kill('SIGINT'));
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

let out: string;
let whole: Ended;
let results: Results;
beforeAll(async () => {
  out = join(hostTemp(), 'whole');
  whole = await fastio(['--clock', 'virtual', '--out', out]);
  if (whole.code !== 1) throw new Error(`ended with ${whole.code ?? 'a signal'}:\n${whole.stderr}`);
  results = await loadResults(out);
});

it('measures servers in real guests under the virtual clock, and finds the one that echoes wrong bytes', () => {
  const status = Object.fromEntries(results.points.map((point) => [point.server, point]));

  expect(status['epoll']).toMatchObject({ status: 'ok', errors: 0 });
  expect(status['fastio']).toMatchObject({ status: 'ok', errors: 0 });
  expect(status['wrong']?.status).toBe('failed');
  expect(results.failures).toHaveLength(1);
  expect(results.failures[0]).toMatchObject({ point: 'small/wrong/w1/c4/b64', kernel: false });
  expect(results.failures[0]?.message).toMatch(/the load generator ended with status 1: .*byte/);
});

it('counts the CPUs that were used, and the instructions of a request', () => {
  const [epoll, fastio] = ['epoll', 'fastio'].map((name) =>
    results.points.find(({ server }) => server === name),
  );

  for (const { cpusUsed } of epoll?.samples ?? []) expect(cpusUsed).toBeCloseTo(1, 0);
  // The application thread spins beside the worker.
  for (const { cpusUsed } of fastio?.samples ?? []) expect(cpusUsed).toBeCloseTo(2, 0);
  const instructions = epoll?.summary?.instructionsPerRequest?.median ?? 0;
  expect(instructions).toBeGreaterThan(5_000);
  expect(instructions).toBeLessThan(30_000);
});

it('says how to go on when interrupted, does so, and ends with the very same results', async () => {
  const again = join(hostTemp(), 'again');
  let pressed = false;
  const interrupted = await fastio(['--clock', 'virtual', '--out', again], (line, interrupt) => {
    // Once: a second Ctrl-C ends the command on the spot.
    if (pressed || !/\[\d\/4\] .*: (done|failed)/.test(line)) return;
    pressed = true;
    interrupt();
  });
  const before = readdirSync(join(again, 'raw'));
  const resumed = await fastio(['--resume', again]);

  expect(interrupted.code).toBe(130);
  expect(interrupted.stderr).toContain(`--resume ${again}`);
  expect(before.length).toBeGreaterThan(0);
  expect(before.length).toBeLessThan(4);
  expect(resumed.stderr).toContain(`${4 - before.filter((name) => !name.includes('wrong')).length} runs in`);
  const hash = resultsHash(results);
  console.log(
    `sha256 of a whole and of an interrupted run: ${hash} ${resultsHash(await loadResults(again))}`,
  );
  expect(resultsHash(await loadResults(again))).toBe(hash);
  expect(whole.stdout).toContain(`sha256 ${hash}`);
});

it('measures by the wall clock, too, and says that emulated figures cannot be compared', async () => {
  const wall = join(hostTemp(), 'wall');
  const ended = await fastio(['--clock', 'wall', '--accel', 'tcg', '--out', wall]);
  if (ended.code !== 1) throw new Error(`ended with ${ended.code ?? 'a signal'}:\n${ended.stderr}`);
  const { points, failures } = await loadResults(wall);

  expect(failures.map(({ point }) => point)).toEqual(['small/wrong/w1/c4/b64']);
  const measured = points.filter(({ server }) => server !== 'wrong');
  expect(measured.map(({ status }) => status)).not.toContain('failed');
  for (const { comparable, samples } of measured) {
    expect(comparable).toBe(false);
    expect(samples).toHaveLength(3);
    // A thread cannot be busier than always; the reading itself takes time on a busy host.
    for (const { generatorBusy } of samples) expect(generatorBusy).toBeLessThan(1.05);
  }
});
