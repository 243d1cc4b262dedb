import type { Accel } from '../../vm/vm.js';
import type { ClockName } from '../schema/suite.js';

/** Times slower than hardware that a guest may be before waiting for it is pointless. */
const slowness = { hardware: 1, tcg: 5, virtual: 60 } as const;

/** Wall-clock ms to wait for what takes `ms` on hardware. */
export function patienceMs(ms: number, clock: ClockName, accel: Accel): number {
  if (clock === 'virtual') return ms * slowness.virtual;
  return ms * (accel === 'tcg' ? slowness.tcg : slowness.hardware);
}
