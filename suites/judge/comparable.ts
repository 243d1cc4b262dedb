import type { Accel } from '../../vm/vm.js';
import type { Claim } from '../schema/claims.js';
import type { ClockName } from '../schema/suite.js';

/** Under what a run was made, as far as it decides what its figures can be set beside. */
export interface Conditions {
  readonly clock: ClockName;
  readonly accel: Accel | null;
  readonly costProfile: string | null;
  readonly cpuModel: string;
  /** Physical or hyper-threaded CPUs the host has. */
  readonly hostCpus: number;
  readonly guestCpus: number;
}

/** Why no figure of a run may be set beside a published one; empty when it may. */
export function incomparableReasons(conditions: Conditions): readonly string[] {
  const { clock, accel, hostCpus, guestCpus } = conditions;
  if (clock === 'virtual') return [];
  const reasons: string[] = [];
  if (accel === 'tcg') {
    reasons.push(
      'wall-clock time under plain emulation measures the emulator, and threads that poll share the host’s CPUs in turn',
    );
  }
  if (guestCpus > hostCpus) {
    reasons.push(
      `the guest has ${guestCpus} vCPUs and the host ${hostCpus} CPUs, so polling threads take time from each other`,
    );
  }
  return reasons;
}

/** Why one claim cannot be judged under these conditions, or undefined when it can. */
export function whyNotJudged(claim: Claim, conditions: Conditions): string | undefined {
  const { wall, virtual } = claim.comparable;
  if (conditions.clock === 'virtual') {
    if (virtual === undefined) {
      return claim.note ?? 'an absolute figure of hardware; the virtual clock is a model';
    }
    if (virtual.costProfile !== undefined && virtual.costProfile !== conditions.costProfile) {
      return `needs the cost profile "${virtual.costProfile}", found "${conditions.costProfile ?? 'none'}"`;
    }
    return undefined;
  }
  if (wall === undefined) return 'can only be judged under the virtual clock';
  const [general] = incomparableReasons(conditions);
  if (general !== undefined) return general;
  if (wall.cpuModel !== undefined && !new RegExp(wall.cpuModel, 'i').test(conditions.cpuModel)) {
    return `absolute figures can only be judged on the CPU they were published for (${wall.cpuModel}), found "${conditions.cpuModel}"`;
  }
  return undefined;
}
