import { expect, it } from '@jest/globals';
import { fixture } from '../../test/suites/runs.js';
import { loadSuite } from '../schema/load.js';
import { decideClock } from './clock.js';
import type { SuiteOptions } from './options.js';

const usable: SuiteOptions['probeHardware'] = () =>
  Promise.resolve({ usable: true, reason: 'a trial guest reached user space' });

it.each<[string, Partial<SuiteOptions>, number, string, RegExp]>([
  ['is asked for the wall', { clock: 'wall' }, 2, 'wall', /asked for/],
  ['has hardware and CPUs', { probeHardware: usable }, 8, 'wall', /trial guest/],
  [
    'has hardware but too few CPUs',
    { probeHardware: usable },
    4,
    'virtual',
    /the guest has 8 CPUs and this machine 4/,
  ],
  ['has CPUs but no hardware', {}, 64, 'virtual', /there is none/],
  ['is told to emulate', { accel: 'tcg' }, 64, 'virtual', /emulation was asked for/],
  ['is told to use KVM', { accel: 'kvm' }, 2, 'wall', /hardware acceleration was asked for/],
  ['runs x86_64 guests', { arch: 'x86_64' }, 2, 'wall', /does not simulate x86_64/],
])('decides the clock of a machine that %s', async (_, changes, cpus, clock, because) => {
  const { options } = fixture(undefined, { clock: 'auto', accel: 'auto', ...changes });
  const suite = await loadSuite(options.suites[0] ?? '');

  const decision = await decideClock([suite], options, { cpus });

  expect(decision.clock).toBe(clock);
  expect(decision.because).toMatch(because);
});
