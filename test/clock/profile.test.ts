import { beforeAll, expect, it } from '@jest/globals';
import { parseKallsyms, type Symbols } from '../../vm/clock/lines.js';
import type { ClockWindow } from '../../vm/clock/log.js';
import { describeProfile, profileCode } from '../../vm/clock/profile.js';
import { calibrate, inWindow, type Calibration } from './rig.js';

const calls = 5_000;
const adds = 2_000;
let run: Calibration;
let symbols: Symbols;
beforeAll(async () => {
  run = await calibrate(
    'profile',
    4,
    [inWindow('calls', 'calls', calls), inWindow('alias', 'alias', adds, 1)],
    {
      seed: 1,
      costProfile: 'neoverse-n1',
      profile: true,
    },
  );
  symbols = parseKallsyms(run.job.kallsyms);
});

function windowOf(index: number): ClockWindow {
  const window = run.job.clock.windows[index];
  if (window === undefined) throw new Error(`window ${index} is missing`);
  return window;
}

it('books nearly every ns that a vCPU executed on some function', () => {
  const { functions, executedNs } = profileCode(windowOf(0), symbols, [1]);
  const booked = functions.reduce((sum, { ns }) => sum + ns, 0);

  // All but the slices that were under way when the window began and ended.
  expect(Math.abs(booked - executedNs)).toBeLessThan(0.001 * executedNs);
  expect(windowOf(0).unprofiledNs).toBe(0);
});

it('knows what a null system call does', () => {
  const { functions } = profileCode(windowOf(0), symbols, [1]);
  const perCall = (name: string): number => (functions.find((row) => row.name === name)?.ns ?? 0) / calls;

  // Its way in costs 100 ns beyond the instructions around it, which the caller pays; so does its way out.
  expect(perCall('user code')).toBeGreaterThan(100);
  expect(perCall('user code')).toBeLessThan(150);
  expect(perCall('ret_to_user')).toBeGreaterThan(100);
  expect(perCall('__arm64_sys_getppid')).toBeGreaterThan(5);
});

it('knows which code lines moved for, and counts each transfer once', () => {
  const { functions, transfers } = profileCode(windowOf(1), symbols, [1, 2]);

  expect(functions.find(({ name }) => name === 'user code')?.transfers).toBeGreaterThan(1.5 * adds);
  expect(functions.reduce((sum, row) => sum + row.transfers, 0)).toBe(transfers);
});

it('says so in text', () => {
  const groups = [{ title: 'caller', vcpus: [1] }];

  const text = describeProfile(windowOf(0), symbols, { groups, requests: calls, rows: 5 });

  console.log(text);
  expect(text).toMatch(/^caller: vCPU 1; [01]\.\d\d CPUs used/);
  expect(text).toMatch(/^ +\d+ +\d+\.\d % +\d+\.\d\d +ret_to_user$/m);
});
