import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { prepareClock } from '../../vm/clock/clock.js';
import { runJob, type JobResult } from '../../vm/clock/job.js';
import { readClockLog } from '../../vm/clock/log.js';
import type { JobStep } from '../../vm/clock/steps.js';
import { FastioError } from '../../vm/errors.js';
import { bootQemu, listVms } from '../../vm/machine/qemu-vm.js';
import { deadline, until } from '../../vm/wait.js';
import { defaultSpec, hostTemp, noSignal, report } from '../guest/guest.js';

const directory = hostTemp();
const files = join(directory, 'files');
const name = (what: string): string => `clock-${process.pid}-${what}`;
beforeAll(() => mkdir(files));
afterAll(() => rm(directory, { recursive: true }));

/** Boots a guest that does one thing as its job. */
function doAlone(what: string, script: string, signal: AbortSignal): Promise<JobResult> {
  const step: JobStep = { kind: 'run', id: what, argv: ['sh', '-c', script], timeoutMs: 3_600_000 };
  return runJob(
    defaultSpec,
    { groups: [{ id: what, steps: [step] }], files },
    { seed: 1 },
    { bootVm: bootQemu, name: name(what), report, signal },
  );
}

it('names a panic in virtual time at once', async () => {
  const startedAt = performance.now();

  const job = doAlone('panic', 'echo c >/proc/sysrq-trigger', noSignal);

  await expect(job).rejects.toMatchObject({ code: expect.stringMatching(/^GUEST_(PANIC|OOPS)$/) });
  // Far below any deadline of a boot.
  expect(performance.now() - startedAt).toBeLessThan(90_000);
});

it('ends a guest whose time goes on for ever by the clock on the wall', async () => {
  const late = new FastioError('TIMEOUT', 'the test has waited long enough', 'None.');

  const job = doAlone('spin', 'while :; do :; done', deadline(20_000, late));

  await expect(job).rejects.toBe(late);
  expect((await listVms()).map((vm) => vm.name)).not.toContain(name('spin'));
});

it('sleeps through the hour that a job may take in moments, and ends it then', async () => {
  const startedAt = performance.now();

  const job = await doAlone('doze', 'while :; do sleep 1000; done', noSignal);

  expect(job.steps.get('doze.doze')).toMatchObject({ status: 137 });
  expect(performance.now() - startedAt).toBeLessThan(120_000);
});

it('powers off with all vCPUs asleep, and writes its last counters', async () => {
  const options = { name: name('off'), accel: 'tcg' as const, requireAccel: false, report, signal: noSignal };
  const { spec, statsFile } = await prepareClock(
    { ...defaultSpec, cpus: 4 },
    { seed: 1, pace: true, statsFile: join(directory, 'off.jsonl') },
    { report, signal: noSignal },
  );
  await using vm = await bootQemu(spec, options);
  const late = new FastioError('TIMEOUT', 'the guest did not power off', 'None.');
  const waiting = AbortSignal.any([vm.died, deadline(60_000, late)]);

  await vm.exec(['sh', '-c', 'echo o >/proc/sysrq-trigger; sleep 60']).catch(() => undefined);
  await until(() => Promise.resolve(vm.died.aborted), { everyMs: 50, signal: waiting }).catch(
    () => undefined,
  );

  expect(vm.died.reason).not.toBe(late);
  expect(vm.died.aborted).toBe(true);
  const { end } = await readClockLog(statsFile);
  expect(end?.vcpus).toHaveLength(4);
  expect(end?.vcpus.every(({ sleeps }) => sleeps > 0)).toBe(true);
});

it('lets a guest that waits for its user cost the host next to nothing', async () => {
  const { spec, statsFile } = await prepareClock(
    defaultSpec,
    { seed: 1, pace: true, statsFile: join(directory, 'idle.jsonl') },
    { report, signal: noSignal },
  );
  const options = {
    name: name('idle'),
    accel: 'tcg' as const,
    requireAccel: false,
    report,
    signal: noSignal,
  };
  await using vm = await bootQemu(spec, options);
  const uptime = async (): Promise<number> =>
    Number((await vm.exec(['cat', '/proc/uptime'])).stdout.split(' ')[0]);

  const before = { wall: performance.now(), guest: await uptime() };
  await vm.exec(['sleep', '5']);
  const after = { wall: performance.now(), guest: await uptime() };

  // Time passes by the wall while the guest sleeps: five seconds are five, not a moment.
  expect(after.guest - before.guest).toBeGreaterThanOrEqual(5);
  expect(after.wall - before.wall).toBeGreaterThanOrEqual(4_500);
  expect((await readClockLog(statsFile)).start.vcpus).toBe(2);
});
