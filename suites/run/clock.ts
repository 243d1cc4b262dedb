import { FastioError } from '../../vm/errors.js';
import { hostRoom, type HostRoom } from '../plan/lanes.js';
import type { LoadedSuite } from '../schema/load.js';
import type { ClockName } from '../schema/suite.js';
import type { SuiteOptions } from './options.js';

/** A clock, and the clause that says why. */
export interface ClockDecision {
  readonly clock: ClockName;
  readonly because: string;
}

type Asked = Pick<SuiteOptions, 'clock' | 'accel' | 'requireAccel' | 'arch' | 'kernel' | 'qemu'> &
  Pick<SuiteOptions, 'probeHardware' | 'report' | 'signal'>;

/**
 * Settles `--clock auto`: wall-clock figures mean something where hardware carries the guest and every thread has a CPU;
 * elsewhere the virtual clock's do.
 * @throws FastioError USAGE for options that contradict each other.
 */
export async function decideClock(
  suites: readonly LoadedSuite[],
  asked: Asked,
  { cpus }: Pick<HostRoom, 'cpus'> = hostRoom(),
): Promise<ClockDecision> {
  const { clock, accel, requireAccel, arch } = asked;
  if (clock === 'virtual' && (requireAccel || accel === 'kvm' || accel === 'hvf')) {
    throw new FastioError(
      'USAGE',
      '--clock virtual: found a demand for hardware acceleration too, expected none: the clock counts simulated instructions',
      'Leave --require-accel and --accel out, or use --clock wall.',
    );
  }
  if (clock === 'virtual' && arch !== 'arm64') {
    throw new FastioError(
      'USAGE',
      `--clock virtual: found guests of ${arch}, expected arm64, which is all it simulates`,
      'Use --arch arm64, or --clock wall.',
    );
  }
  if (clock !== 'auto') return { clock, because: 'it was asked for' };
  if (requireAccel || accel === 'kvm' || accel === 'hvf') {
    return { clock: 'wall', because: 'hardware acceleration was asked for' };
  }
  if (arch !== 'arm64') return { clock: 'wall', because: `the virtual clock does not simulate ${arch}` };
  if (accel === 'tcg') return { clock: 'virtual', because: 'emulation was asked for' };
  const needed = Math.max(1, ...suites.map(({ suite }) => suite.vm.cpus));
  if (needed > cpus) {
    return { clock: 'virtual', because: `the guest has ${needed} CPUs and this machine ${cpus}` };
  }
  const { usable, reason } = await asked.probeHardware(asked, asked);
  return { clock: usable ? 'wall' : 'virtual', because: reason };
}
