import { availableParallelism, freemem } from 'node:os';
import type { LoadedSuite } from '../schema/load.js';

/** What QEMU takes besides the guest's memory, its code cache above all. */
const overheadMiB = 512;
/** Of the memory that is free now. */
const memoryShare = 0.8;

export interface HostRoom {
  readonly cpus: number;
  readonly freeMiB: number;
}

/** What this host has to spare. */
export function hostRoom(): HostRoom {
  return { cpus: availableParallelism(), freeMiB: freemem() / 1_048_576 };
}

/**
 * Guests simulated at the same time. Each keeps one CPU of the host busy, whatever number of its own it has.
 * @param runs That are left to do.
 * @param asked By the user; without it as many as the host has CPUs and memory for.
 */
export function lanesOf(
  suites: readonly LoadedSuite[],
  runs: number,
  asked: number | undefined,
  { cpus, freeMiB }: HostRoom = hostRoom(),
): number {
  const largest = Math.max(0, ...suites.map(({ suite }) => suite.vm.memoryMiB)) + overheadMiB;
  const fit = asked ?? Math.min(cpus, Math.floor((freeMiB * memoryShare) / largest));
  return Math.max(1, Math.min(fit, runs));
}
