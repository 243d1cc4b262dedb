import type { Accel } from '../../vm/vm.js';

/** Times slower than hardware that a guest may be before waiting for it is pointless. */
const slowness = { hardware: 1, tcg: 5 } as const;

/** Wall-clock ms to wait for what takes `ms` on hardware. */
export function patienceMs(ms: number, accel: Accel): number {
  return ms * (accel === 'tcg' ? slowness.tcg : slowness.hardware);
}
