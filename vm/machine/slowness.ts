import { cpus, loadavg } from 'node:os';
import type { Accel } from '../vm.js';

/** Emulation is measured at five to eight times slower than hardware; deadlines leave a margin. */
const emulated = 10;
/** A machine busy with other work slows a guest by at most this factor before we call it hung. */
const busyMax = 4;

/** What a deadline "as on hardware" is multiplied by: one place for every wait on a guest. */
export function slowness(
  accel: Accel,
  load: number = loadavg()[0] ?? 0,
  cores: number = cpus().length,
): number {
  const busy = Math.min(busyMax, Math.max(1, load / Math.max(1, cores)));
  return (accel === 'tcg' ? emulated : 1) * busy;
}
