import { expect, it } from '@jest/globals';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fakeGuests } from '../../test/suites/fake-vm.js';
import { fixture } from '../../test/suites/runs.js';
import { FastioError } from '../../vm/errors.js';
import type { Progress } from '../../vm/progress.js';
import { loadResults } from '../schema/load.js';
import type { SuiteOptions } from './options.js';
import { runSuites } from './run-suites.js';

it('measures every point in every boot and leaves complete results', async () => {
  const { options, guests } = fixture();

  const { results, kernel, failed } = await runSuites(options);

  expect(results.progress).toMatchObject({ runs: 20, finished: 20, complete: true });
  expect(results.points).toHaveLength(8);
  expect(results.points.map(({ status }) => status)).toEqual(Array<string>(8).fill('ok'));
  expect(results.points.every(({ samples }) => samples.length === 4)).toBe(true);
  expect([kernel, failed]).toEqual([false, false]);
  expect(await loadResults(options.out)).toEqual(results);
  expect(guests.boots()).toBe(4);
  expect(guests.running()).toBe(0);
});

it('finds the ratio and the figure per CPU that the servers have', async () => {
  const { options } = fixture();

  const { results } = await runSuites(options);

  const two = results.points.find(({ id }) => id === 'small/fastio/w2/c25/b64');
  expect(two?.summary?.ratioToBaseline?.median).toBeCloseTo((2 * 70_200 * 1.06) / 69_800, 1);
  expect(two?.samples[0]?.cpusUsed).toBeCloseTo(3, 5);
  expect(two?.summary?.requestsPerSecondPerCpu?.median).toBeCloseTo((2 * 70_200 * 1.06) / 3, -3);
  expect(two?.summary?.requestsPerSecond).toMatchObject({ n: 2, level: 'boot' });
  expect(results.noise).toHaveLength(2);
});

it('says that emulation in wall-clock time cannot be compared, and judges under the virtual clock', async () => {
  const wall = await runSuites(fixture().options);
  const virtual = await runSuites(fixture(undefined, { clock: 'virtual' }).options);

  expect(wall.results.points.some(({ comparable }) => comparable)).toBe(false);
  expect(wall.results.claims[0]).toMatchObject({ verdict: 'NOT COMPARABLE' });
  expect(virtual.results.claims[0]).toMatchObject({ verdict: 'PASS', published: 1.95 });
  expect(virtual.results.clock.costProfile).toBe('neoverse-n1');
});

it('records a server that crashes at the start, with its log, and measures the rest', async () => {
  const guests = fakeGuests({ crashAtStart: (_, program) => program === 'fastio' });
  const { options } = fixture(guests);

  const { results, failed, kernel } = await runSuites(options);

  expect([failed, kernel]).toEqual([true, false]);
  expect(results.progress.complete).toBe(true);
  const [failure] = results.failures;
  expect(failure).toMatchObject({
    code: 'GUEST_COMMAND',
    message: 'fastio x1 ended with status 1: bind: address already in use',
  });
  expect(failure?.log).toContain('bind: address already in use');
  const states = new Set(results.points.map(({ server, status }) => `${server} ${status}`));
  expect(states).toEqual(new Set(['epoll ok', 'fastio failed']));
});

it('blames the server that crashed under load, not the generator that lost its connections', async () => {
  const guests = fakeGuests({ crashUnderLoad: (run) => run === 1 });

  const { results } = await runSuites(fixture(guests).options);

  expect(results.failures.map(({ message }) => message)).toEqual(
    expect.arrayContaining([expect.stringMatching(/^(epoll|fastio) x[12] was ended by signal 11$/)]),
  );
});

it('fails a point whose server echoes wrong bytes', async () => {
  const guests = fakeGuests({ wrongBytes: (_, program) => program === 'fastio' });

  const { results, failed } = await runSuites(fixture(guests).options);

  expect(failed).toBe(true);
  expect(results.failures[0]?.message).toContain('byte 17 is 0x41, expected 0x42');
});

it('takes a kernel warning for a failure even though the figures look fine, and goes on in a fresh guest', async () => {
  const guests = fakeGuests({ splat: (run, program) => run === 2 && program === 'fastio' });
  const { options } = fixture(guests);

  const { results, kernel } = await runSuites(options);

  expect(kernel).toBe(true);
  expect(results.failures.every((failure) => failure.kernel)).toBe(true);
  expect(results.failures[0]?.message).toContain('WARNING: CPU: 1');
  expect(guests.boots()).toBe(4 + results.failures.length);
  expect(results.progress.complete).toBe(true);
  expect(guests.running()).toBe(0);
});

it('boots anew after a panic, and gives a block up when every guest dies', async () => {
  const guests = fakeGuests({ panic: () => true });
  const { options } = fixture(guests);

  const { results, kernel } = await runSuites(options);

  expect(kernel).toBe(true);
  expect(results.progress.complete).toBe(true);
  expect(results.failures).toHaveLength(20);
  expect(guests.boots()).toBe(4 * 4);
});

it('declares points invalid at which the generator was the bottleneck', async () => {
  const guests = fakeGuests({ generatorBusy: (program) => (program === 'fastio' ? 0.97 : 0.5) });

  const { results, failed } = await runSuites(fixture(guests).options);

  const fast = results.points.filter(({ server }) => server === 'fastio');
  expect(failed).toBe(false);
  expect(fast.every(({ status }) => status === 'invalid')).toBe(true);
  expect(fast[0]?.reasons[0]).toContain('a thread of it was busy 97 % of the time');
});

it('keeps finished runs when interrupted, and resumes without repeating them', async () => {
  const stop = new AbortController();
  let loads = 0;
  const first = fakeGuests({
    beforeLoad: () => {
      loads += 1;
      if (loads === 9) stop.abort(new FastioError('INTERRUPTED', 'stopped by SIGINT', 'Resume.'));
    },
  });
  const { options } = fixture(first, { signal: stop.signal });
  await expect(runSuites(options)).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const before = await loadResults(options.out);
  expect(before.progress).toMatchObject({ finished: 4, complete: false });
  expect(first.running()).toBe(0);

  const second = fakeGuests();
  const again: Partial<SuiteOptions> = { ...options };
  delete (again as { seed?: number }).seed;
  const { results } = await runSuites({
    ...(again as SuiteOptions),
    bootVm: second.bootVm,
    resume: true,
    signal: new AbortController().signal,
  });

  expect(results.progress).toMatchObject({ finished: 20, complete: true, resumed: true });
  expect(results.seed).toBe(7);
  const servers = second.commands.filter((argv) => argv[2]?.includes('fastio-pid') === true);
  expect(servers).toHaveLength(16);
});

it('runs failed runs again when resuming', async () => {
  const { options } = fixture(fakeGuests({ crashAtStart: (_, program) => program === 'fastio' }));
  await runSuites(options);

  const { results } = await runSuites({ ...options, bootVm: fakeGuests().bootVm, resume: true });

  expect(results.failures).toEqual([]);
  expect(results.points.every(({ status }) => status === 'ok')).toBe(true);
});

it('refuses to write over another run, and to resume with other inputs', async () => {
  const { options } = fixture();
  await runSuites(options);

  await expect(runSuites(options)).rejects.toMatchObject({ code: 'INPUT_INVALID' });
  await expect(runSuites({ ...options, resume: true, seed: 8 })).rejects.toThrow(/other inputs/);
});

it('keeps raw records, logs, inputs and the lock file beside the results', async () => {
  const { options } = fixture();

  await runSuites(options);

  const has = (name: string): boolean => existsSync(join(options.out, name));
  expect(readdirSync(join(options.out, 'raw'))).toHaveLength(20);
  expect(
    ['kernel.log', 'console.log', 'fastio.conf', 'guest-arm64.lock', 'inputs/small.yaml'].every(has),
  ).toBe(true);
  expect(readFileSync(join(options.out, 'logs', 'small.epoll.w1.c25.b64.b0.p0.log'), 'utf8')).toContain(
    'READY port=',
  );
  expect(readdirSync(options.out).some((name) => name.endsWith('.tmp'))).toBe(false);
});

it('reports a plan, each run, and the row of each point as it fills', async () => {
  const events: Progress[] = [];
  const { options } = fixture(fakeGuests(), { report: (event) => events.push(event) });

  await runSuites(options);

  expect(events[0]).toMatchObject({ kind: 'stage', name: 'clock' });
  expect(events[1]).toMatchObject({ kind: 'plan', points: 8, runs: 20, boots: 4, seed: 7 });
  const done = events.filter((event) => event.kind === 'run' && event.phase === 'done');
  expect(done).toHaveLength(20);
  expect(done.at(-1)).toMatchObject({ remainingSeconds: 0 });
  const rows = events.filter((event) => event.kind === 'row');
  expect(rows.find(({ point }) => point === 'small/fastio/w2/c25/b64')).toMatchObject({
    publishedRatio: 1.95,
  });
});

it('loads the module once per boot, with its parameters, and only where a server needs it', async () => {
  const { options, guests } = fixture();

  await runSuites(options);

  const insmods = guests.commands.filter(([program]) => program === 'insmod');
  expect(insmods).toEqual(Array(4).fill(['insmod', '/opt/fastio/modules/fastio.ko', 'debug=1']));
});
