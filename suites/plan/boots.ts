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
  /** For one run of several that were to share a guest, after one of them failed. */
  readonly alone: boolean;
}

/** The guests a block gets under the virtual clock: as few as may be, and as equal in length. */
function shares(runs: readonly PlannedRun[]): readonly (readonly PlannedRun[])[] {
  const guests = Math.ceil(runs.length / runsPerGuest);
  const edge = (guest: number): number => Math.round((guest * runs.length) / guests);
  return Array.from({ length: guests }, (_, guest) => runs.slice(edge(guest), edge(guest + 1)));
}

/** How a run was measured that is done; undefined for one that is not. */
export type HowDone = (runId: string) => { readonly alone: boolean } | undefined;

/**
 * The boots that are still to be made. By the wall clock what was measured is left out. Under the virtual one a run's
 * figures belong to its whole boot, which is repeated bit for bit; unless some run was measured alone because one had
 * failed: then those that are missing are, too.
 */
export function bootsLeft(
  { blocks }: Pick<Plan, 'blocks'>,
  clock: ClockName,
  howDone: HowDone = () => undefined,
): readonly Boot[] {
  const isMissing = ({ id }: PlannedRun): boolean => howDone(id) === undefined;
  const boots = blocks.flatMap((block): readonly Boot[] => {
    if (clock === 'wall') return [{ block, runs: block.runs.filter(isMissing), alone: false }];
    return shares(block.runs).flatMap((runs): readonly Boot[] =>
      runs.some(({ id }) => howDone(id)?.alone)
        ? runs.filter(isMissing).map((run) => ({ block, runs: [run], alone: true }))
        : [{ block, runs, alone: false }],
    );
  });
  return boots.filter(({ runs }) => runs.some(isMissing));
}
