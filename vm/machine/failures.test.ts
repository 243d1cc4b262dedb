import { expect, it } from '@jest/globals';
import type { KernelReport } from '../vm.js';
import {
  explainExit,
  explainHang,
  explainNoOutput,
  explainNoStart,
  explainSilence,
  kernelReportToError,
  type Evidence,
} from './failures.js';

const quiet: Evidence = {
  directory: '/run/x',
  lastLines: ['[    1.0] last words'],
  reports: [],
  messages: '',
};
const ended = { status: 0, signal: null };
const oops: KernelReport = {
  severity: 'oops',
  headline: 'Unable to handle kernel NULL pointer',
  lines: ['pc : f'],
};
const afterOops: KernelReport = {
  severity: 'panic',
  headline: 'Kernel panic - not syncing: Oops: Fatal exception',
  lines: [],
};
const panic: KernelReport = {
  severity: 'panic',
  headline: 'Kernel panic - not syncing: sysrq triggered crash',
  lines: [],
};

it.each([
  ['a panic', ended, { ...quiet, reports: [panic] }, 'GUEST_PANIC', 'sysrq triggered crash'],
  ['an oops made fatal', ended, { ...quiet, reports: [oops, afterOops] }, 'GUEST_OOPS', 'NULL pointer'],
  [
    'a panic that an earlier, survived oops did not cause',
    ended,
    { ...quiet, reports: [oops, panic] },
    'GUEST_PANIC',
    'sysrq triggered crash',
  ],
  ['a power-off from inside', ended, quiet, 'QEMU_GONE', 'powered itself off'],
  ['a kill', { status: null, signal: 'SIGKILL' as const }, quiet, 'QEMU_GONE', 'was killed'],
  [
    'a full disk below its memory',
    { status: null, signal: 'SIGBUS' as const },
    quiet,
    'DISK_FULL',
    'disk is full',
  ],
  ['a crash of QEMU', { status: null, signal: 'SIGSEGV' as const }, quiet, 'QEMU_GONE', 'died of SIGSEGV'],
  [
    'an init that gave up',
    ended,
    { ...quiet, lastLines: ['fastio-init: no disk /dev/vda', '[    2.0] reboot: Power down'] },
    'GUEST_NOT_RUNNING',
    'no disk /dev/vda',
  ],
])('explains the end of QEMU after %s', (_, exit, evidence, code, words) => {
  const error = explainExit(exit, evidence);

  expect(error).toMatchObject({ code, message: expect.stringContaining(words) });
  expect(error.remedy).not.toBe('');
});

it.each([
  [
    'a port that is taken',
    "qemu-system-aarch64: -netdev user,id=net: Could not set up host forwarding rule 'tcp:127.0.0.1:80-:80'\n",
    'PORT_TAKEN',
    'tcp:127.0.0.1:80-:80',
  ],
  [
    'too little memory',
    'qemu-system-aarch64: cannot set up guest memory: Cannot allocate memory\n',
    'HOST_UNSUPPORTED',
    'memory',
  ],
  ['a full disk', 'qemu-system-aarch64: /c/memory: No space left on device\n', 'DISK_FULL', 'No space left'],
  ['a useless KVM', 'KVM internal error. Suberror: 1\n', 'ACCEL_UNAVAILABLE', 'KVM'],
  ['anything else', 'qemu-system-aarch64: -frob: invalid option\n', 'QEMU_START', '-frob: invalid option'],
])('reads from QEMU’s own words that it did not start for %s', (_, messages, code, words) => {
  const error = explainNoStart({ status: 1, signal: null }, { ...quiet, lastLines: [], messages });

  expect(error).toMatchObject({ code, message: expect.stringContaining(words) });
});

it('has different words for a kernel that says nothing, one that stops, and a guest that stops answering', () => {
  const errors = [explainNoOutput(5_000, quiet), explainSilence(5_000, quiet), explainHang(5_000, quiet)];

  expect(errors.map(({ code }) => code)).toEqual(['GUEST_HANG', 'GUEST_HANG', 'GUEST_HANG']);
  expect(new Set(errors.map(({ message }) => message)).size).toBe(3);
  expect(errors.every(({ detail }) => detail.includes('[    1.0] last words'))).toBe(true);
});

it.each([
  ['panic', 'GUEST_PANIC'],
  ['oops', 'GUEST_OOPS'],
  ['warning', 'GUEST_WARNING'],
  ['hang', 'GUEST_HANG'],
] as const)('ends a run on a report of severity %s with %s and its lines', (severity, code) => {
  const error = kernelReportToError({ severity, headline: 'headline', lines: ['one', 'two'] });

  expect(error).toMatchObject({ code, detail: ['headline', 'one', 'two'] });
});
