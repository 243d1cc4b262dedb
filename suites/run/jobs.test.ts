import { expect, it } from '@jest/globals';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fakeJobs, type JobMishaps } from '../../test/suites/fake-jobs.js';
import { fixture } from '../../test/suites/runs.js';
import { FastioError } from '../../vm/errors.js';
import type { Progress } from '../../vm/progress.js';
import { normalisedText } from '../judge/results.js';
import { loadResults } from '../schema/load.js';
import type { SuiteOptions } from './options.js';
import { runSuites } from './run-suites.js';

/** Options of a run under the virtual clock, with guests that are not there. */
function virtual(mishaps: JobMishaps = {}, changes: Partial<SuiteOptions> = {}) {
  const jobs = fakeJobs(mishaps);
  return { jobs, options: fixture(undefined, { clock: 'virtual', runJob: jobs.runJob, ...changes }).options };
}

it('makes the runs of a condition one job with a seed of its own, and takes CPU use and instructions from the clock', async () => {
  const { jobs, options } = virtual();

  const { results, failed } = await runSuites(options);

  expect([failed, jobs.count(), new Set(jobs.seeds).size]).toEqual([false, 4, 4]);
  expect(results.progress).toMatchObject({ runs: 20, finished: 20, complete: true });
  expect(results.clock).toMatchObject({ name: 'virtual', costProfile: 'neoverse-n1' });
  expect(results.fingerprint.guest).toMatchObject({ commandLine: 'nokaslr', qemuVersion: '10.0.13' });
  const two = results.points.find(({ id }) => id === 'small/fastio/w2/c25/b64');
  expect(two?.samples[0]?.cpusUsed).toBeCloseTo(3, 3);
  expect(two?.samples[0]?.instructionsPerRequest).toBeGreaterThan(0);
  // A quarter of the time is spun away.
  const one = results.points.find(({ id }) => id === 'small/epoll/w1/c25/b64');
  expect(one?.samples[0]?.applicationBusy).toBeCloseTo(0.75, 3);
  expect(two?.samples[0]?.applicationBusy).toBeCloseTo(0.75, 3);
});

it('gives the same results for one seed, however many guests run side by side, host times aside', async () => {
  const runs = [virtual({}, { jobs: 1 }), virtual({}, { jobs: 4 })];
  const texts: string[] = [];
  for (const { options } of runs) texts.push(normalisedText((await runSuites(options)).results));

  expect(texts[1]).toBe(texts[0]);
  expect(runs.map(({ jobs }) => jobs.atOnce())).toEqual([1, 4]);
});

it('gives another seed other results, and another cost profile another plan', async () => {
  const { options } = virtual();
  const first = await runSuites(options);
  const second = await runSuites(virtual({}, { seed: 8 }).options);

  expect(second.results.points[0]?.summary).not.toEqual(first.results.points[0]?.summary);
  await expect(runSuites({ ...options, resume: true, costs: 'emag' })).rejects.toThrow(/other inputs/);
});

it.each<[string, JobMishaps, string]>([
  [
    'a server that ends instead of serving',
    { crashAtStart: (program) => program === 'fastio' },
    'fastio x1 ended with status 1: bind: address already in use',
  ],
  [
    'a server that stays silent',
    { silent: (program) => program === 'fastio' },
    'fastio x1 not ready in time',
  ],
  [
    'a server that crashes under load',
    { crashUnderLoad: (program) => program === 'fastio' },
    'fastio x1 was ended by signal 11',
  ],
  [
    'a server that echoes wrong bytes',
    { wrongBytes: (program) => program === 'fastio' },
    'byte 17 is 0x41, expected 0x42',
  ],
  ['a module the kernel refuses', { insmodFails: true }, 'insmod fastio.ko: insmod: Invalid module format'],
])('records %s, and measures the rest', async (_, mishaps, message) => {
  const { options } = virtual(mishaps);

  const { results, failed, kernel } = await runSuites(options);

  expect([failed, kernel, results.progress.complete]).toEqual([true, false, true]);
  expect(results.failures.some((failure) => failure.message.includes(message))).toBe(true);
  const states = new Set(results.points.map(({ server, status }) => `${server} ${status}`));
  expect(states).toEqual(new Set(['epoll ok', 'fastio failed']));
});

it.each<[string, JobMishaps, string]>([
  ['warning', { splat: (program) => program === 'fastio' }, 'WARNING: CPU: 1'],
  ['panic', { panic: (program) => program === 'fastio' }, 'the guest kernel panicked'],
])('takes a kernel %s for a failure of that run alone', async (_, mishaps, message) => {
  const { options } = virtual(mishaps);

  const { results, kernel } = await runSuites(options);

  expect([kernel, results.progress.complete]).toEqual([true, true]);
  expect(results.failures.every((failure) => failure.kernel && failure.message.includes(message))).toBe(true);
  expect(results.failures).toHaveLength(8);
});

it('measures runs again, each in a guest of its own, when one of those that share a guest fails', async () => {
  const warnings: string[] = [];
  const { jobs, options } = virtual(
    { wrongBytes: (program) => program === 'fastio' },
    {
      report: (event) => {
        if (event.kind === 'warning') warnings.push(event.message);
      },
    },
  );

  const { results } = await runSuites(options);

  expect(jobs.count()).toBe(4 + 20);
  expect(warnings).toHaveLength(4);
  expect(warnings[0]).toContain('one of 5 runs in a guest failed');
  const epoll = results.points.filter(({ server }) => server === 'epoll');
  expect(epoll.every(({ samples, status }) => status === 'ok' && samples.length === 4)).toBe(true);
});

it('says which run is under way as its guest comes to it', async () => {
  const seen: string[] = [];
  const { options } = virtual(
    {},
    {
      jobs: 1,
      report: (event) => {
        if (event.kind === 'run') seen.push(`${event.phase} ${event.index}`);
      },
    },
  );

  await runSuites(options);

  expect(seen.slice(0, 6)).toEqual([
    'started 1',
    'started 2',
    'started 3',
    'started 4',
    'started 5',
    'done 1',
  ]);
  expect(seen).toHaveLength(40);
});

it('keeps finished runs when interrupted, and resumes without repeating them', async () => {
  const stop = new AbortController();
  const interrupt = new FastioError('INTERRUPTED', 'stopped by SIGINT', 'Resume.');
  const first = virtual(
    {
      before: (job) => {
        if (job === 2) stop.abort(interrupt);
      },
    },
    { signal: stop.signal, jobs: 2 },
  );
  await expect(runSuites(first.options)).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const { finished, complete } = (await loadResults(first.options.out)).progress;
  expect([finished > 0, complete]).toEqual([true, false]);

  const again = fakeJobs();
  const { results } = await runSuites({
    ...first.options,
    clock: 'auto',
    resume: true,
    runJob: again.runJob,
    signal: new AbortController().signal,
  });

  // Boots are repeated whole, and those that were finished not at all.
  expect(again.count()).toBe(4 - finished / 5);
  expect(results.progress).toMatchObject({ finished: 20, complete: true, resumed: true });
});

it('resumes runs that are measured alone because one failed, without repeating those that are done', async () => {
  const stop = new AbortController();
  const interrupt = new FastioError('INTERRUPTED', 'stopped by SIGINT', 'Resume.');
  const wrongBytes = (program: string): boolean => program === 'fastio';
  const first = virtual(
    {
      wrongBytes,
      // The first guest's five runs, and three of them alone.
      before: (job) => {
        if (job === 4) stop.abort(interrupt);
      },
    },
    { signal: stop.signal, jobs: 1 },
  );
  await expect(runSuites(first.options)).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const { failures, progress } = await loadResults(first.options.out);
  const kept = progress.finished - failures.length;
  expect([progress.finished, kept > 0]).toEqual([3, true]);

  const again = fakeJobs({ wrongBytes });
  const resumed = { ...first.options, resume: true, runJob: again.runJob };
  const { results } = await runSuites({ ...resumed, signal: new AbortController().signal });
  const { results: whole } = await runSuites(virtual({ wrongBytes }).options);

  expect(again.count()).toBe(5 - kept + 3 * 6);
  const figures = ({ points }: typeof whole): unknown => points.map(({ summary }) => summary);
  expect(figures(results)).toEqual(figures(whole));
});

it('hands servers their padding, conf and pid, and leaves logs behind', async () => {
  const { jobs, options } = virtual();

  await runSuites(options);

  const load = jobs.commands.find(([program]) => program === 'load');
  expect(load).toEqual(expect.arrayContaining(['--account-pid', '{pid:server}']));
  expect(jobs.commands.filter(([program]) => program === 'insmod')).toHaveLength(4);
  const log = join(options.out, 'logs', 'small.epoll.w1.c25.b64.b0.p0.log');
  expect(readFileSync(log, 'utf8')).toContain('READY port=');
  expect(existsSync(join(options.out, 'kernel.log'))).toBe(true);
});

it('writes where a run spent its time when asked, and only then', async () => {
  const plain = virtual();
  const profiled = virtual({}, { profileLines: true });

  await runSuites(plain.options);
  await runSuites(profiled.options);

  expect(existsSync(join(plain.options.out, 'profiles'))).toBe(false);
  const file = join(profiled.options.out, 'profiles', 'small.fastio.w2.c25.b64.b0.p0.txt');
  const text = readFileSync(file, 'utf8');
  expect(text).toContain('application: vCPU 1;');
  expect(text).toContain('workers: vCPU 2, 3;');
  expect(text).toContain('load generator: vCPU 5, 6, 7;');
});

it('chooses the virtual clock by itself where hardware cannot carry the guest, and says why', async () => {
  const events: Progress[] = [];
  const { options } = virtual({}, { clock: 'auto', accel: 'auto', report: (event) => events.push(event) });

  const { results } = await runSuites(options);

  expect(results.clock.name).toBe('virtual');
  expect(events[0]).toMatchObject({
    kind: 'stage',
    name: 'clock',
    detail: expect.stringContaining('because'),
  });
});

it.each([
  ['hardware acceleration', { requireAccel: true }, /demand for hardware/],
  ['guests of x86_64', { arch: 'x86_64' as const }, /found guests of x86_64, expected arm64/],
  ['a cost profile that is not there', { costs: 'cray' }, /no cost profile "cray"/],
])('refuses %s together with the virtual clock', async (_, changes, message) => {
  await expect(runSuites(virtual({}, changes).options)).rejects.toThrow(message);
});
