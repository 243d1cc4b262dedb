import { expect, it, jest } from '@jest/globals';
import type { Progress } from '../progress.js';
import { chooseAccel, hostFacts, probeAll, ruleOut, type HostFacts, type Trial } from './accel.js';

const linux: HostFacts = { platform: 'linux', arch: 'x86_64', kvm: 'open' };
const works: Trial = () => Promise.resolve({ usable: true, reason: 'a trial guest reached user space' });
const aborts: Trial = () =>
  Promise.resolve({ usable: false, reason: 'QEMU says: error: failed to set MSR 0x10a to 0x0' });

it('gives a reason of its own to each way in which KVM cannot work', () => {
  const reasons = [
    ruleOut('kvm', 'arm64', linux),
    ruleOut('kvm', 'x86_64', { ...linux, kvm: 'absent' }),
    ruleOut('kvm', 'x86_64', { ...linux, kvm: 'forbidden' }),
    ruleOut('kvm', 'x86_64', { ...linux, platform: 'darwin' }),
    ruleOut('hvf', 'x86_64', linux),
  ];

  expect(reasons.every((reason) => reason !== undefined)).toBe(true);
  expect(new Set(reasons).size).toBe(reasons.length);
  expect(ruleOut('kvm', 'x86_64', linux)).toBeUndefined();
  expect(ruleOut('tcg', 'arm64', linux)).toBeUndefined();
});

it('tells an absent device from one that is there', async () => {
  expect((await hostFacts('x86_64', '/no/such/device')).kvm).toBe('absent');
  expect((await hostFacts('x86_64', '/dev/null')).kvm).toBe('open');
});

it('believes a trial boot, not the device file', async () => {
  const probes = await probeAll('x86_64', linux, (accel) => (accel === 'kvm' ? aborts : works)(accel));

  expect(probes).toEqual([
    { accel: 'kvm', usable: false, reason: expect.stringContaining('failed to set MSR') },
    { accel: 'tcg', usable: true, reason: expect.stringContaining('user space') },
  ]);
});

it('falls back to emulation and warns in one line that names the reason', async () => {
  const events: Progress[] = [];
  const options = {
    choice: 'auto',
    requireAccel: false,
    report: (event: Progress) => void events.push(event),
  } as const;

  const choice = await chooseAccel('x86_64', linux, options, aborts);

  expect(choice.accel).toBe('tcg');
  expect(events).toEqual([
    {
      kind: 'warning',
      message: 'accel=tcg because kvm cannot be used: QEMU says: error: failed to set MSR 0x10a to 0x0',
      remedy: expect.any(String),
    },
  ]);
});

it('falls back as loudly when hardware was asked for by name but not required', async () => {
  const report = jest.fn();

  const choice = await chooseAccel('arm64', linux, { choice: 'kvm', requireAccel: false, report }, works);

  expect(choice.accel).toBe('tcg');
  expect(report).toHaveBeenCalledWith(expect.objectContaining({ kind: 'warning' }));
});

it('refuses emulation when acceleration is required', async () => {
  const options = { choice: 'auto', requireAccel: true, report: jest.fn() } as const;

  const choosing = chooseAccel('x86_64', linux, options, aborts);

  await expect(choosing).rejects.toMatchObject({
    code: 'ACCEL_UNAVAILABLE',
    message: expect.stringContaining('failed to set MSR'),
  });
});

it('uses hardware that passes its trial, and asks no trial of emulation that was asked for', async () => {
  const trial = jest.fn(works);
  const report = jest.fn();

  const hardware = await chooseAccel('x86_64', linux, { choice: 'auto', requireAccel: true, report }, trial);
  const emulated = await chooseAccel('x86_64', linux, { choice: 'tcg', requireAccel: false, report }, trial);

  expect(hardware.accel).toBe('kvm');
  expect(emulated.accel).toBe('tcg');
  expect(trial).toHaveBeenCalledTimes(1);
});
