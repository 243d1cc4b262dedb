import type { ClockName } from '../schema/suite.js';
import type { Block, Plan, PlannedRun } from './planner.js';

/**
 * Runs that share a guest under the virtual clock, at most. A boot costs as much as a short window, and two runs in one
 * guest meet only in what the kernel has cached; more of them would keep fewer CPUs of the host busy.
 */
export const runsPerGuest = 6;

/** What one guest is booted for. */
export interface Boot {
  readonly block: Block;
  /** In this order, one after the other. */
  readonly runs: readonly PlannedRun[];
}

/** The guests a block gets under the virtual clock: as few as may be, and as equal in length. */
function shares(runs: readonly PlannedRun[]): readonly (readonly PlannedRun[])[] {
  const guests = Math.ceil(runs.length / runsPerGuest);
  const edge = (guest: number): number => Math.round((guest * runs.length) / guests);
  return Array.from({ length: guests }, (_, guest) => runs.slice(edge(guest), edge(guest + 1)));
}

/**
 * The boots that are still to be made. By the wall clock what was measured is left out; under the virtual one a run's
 * figures belong to its whole boot, which is repeated bit for bit.
 */
export function bootsLeft(
  { blocks }: Pick<Plan, 'blocks'>,
  clock: ClockName,
  isDone: (runId: string) => boolean = () => false,
): readonly Boot[] {
  const boots = blocks.flatMap((block): readonly Boot[] =>
    clock === 'virtual'
      ? shares(block.runs).map((runs) => ({ block, runs }))
      : [{ block, runs: block.runs.filter(({ id }) => !isDone(id)) }],
  );
  return boots.filter(({ runs }) => runs.some(({ id }) => !isDone(id)));
}
