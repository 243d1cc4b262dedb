import { createHash } from 'node:crypto';
import { FastioError } from '../../vm/errors.js';
import type { AccelChoice, Arch, KernelSeries } from '../../vm/vm.js';
import type { LoadedSuite } from '../schema/load.js';
import type { ClockName, ProfileName } from '../schema/suite.js';
import { profileOf } from '../schema/suite.js';
import type { Condition, PlannedPoint } from './points.js';
import { conditionsOf, windowOf } from './points.js';
import type { Boot } from './boots.js';
import { bootsLeft, runsPerGuest } from './boots.js';
import { lanesOf } from './lanes.js';
import { seededRandom, shuffled } from './random.js';

/** `aa`: the baseline a second time, as if it were another contender. */
export type Replica = 'main' | 'aa';

/** One server start. */
export interface PlannedRun {
  /** Fit for a file name: `echo.fastio.w3.c25.b64.b0.p1`. */
  readonly id: string;
  readonly point: PlannedPoint;
  readonly replica: Replica;
  readonly boot: number;
  readonly process: number;
  /** Bytes of padding in the server's environment: moves its stack, as another user's shell would. */
  readonly environmentPadding: number;
}

/** The runs of one boot: a condition's points, interleaved. Shards take whole blocks. */
export interface Block {
  readonly id: string;
  readonly suite: string;
  readonly boot: number;
  /** For what a boot varies: the virtual clock's start offset and seed. */
  readonly seed: number;
  readonly runs: readonly PlannedRun[];
}

export interface Plan {
  readonly conditions: readonly Condition[];
  /** Of this shard, in the order they are run. */
  readonly blocks: readonly Block[];
  /** Blocks of all shards together. */
  readonly totalBlocks: number;
  /** Equal for every shard of one run. */
  readonly hash: string;
  readonly estimateSeconds: number;
}

export interface PlanOptions {
  readonly profile: ProfileName;
  readonly clock: ClockName;
  readonly accel: AccelChoice;
  readonly arch: Arch;
  readonly kernel: KernelSeries;
  readonly seed: number;
  readonly force: boolean;
  /** Cost profile of the virtual clock; without meaning under the wall clock. */
  readonly costs: string;
  /** Guests side by side under the virtual clock; without it as many as fit. Changes no figure. */
  readonly jobs?: number;
  /** 1-based, as users type `--shard 2/4`. */
  readonly shard?: Shard;
}

export interface Shard {
  readonly index: number;
  readonly count: number;
}

/**
 * Lays out all runs. The same suites and options give the same plan on every machine.
 * @throws FastioError INPUT_INVALID for points that do not fit the guest; USAGE for a shard that does not exist.
 */
export function planRuns(suites: readonly LoadedSuite[], options: PlanOptions): Plan {
  const { shard } = options;
  if (shard !== undefined && !(shard.count >= 1 && shard.index >= 1 && shard.index <= shard.count)) {
    throw new FastioError(
      'USAGE',
      `--shard: found ${shard.index}/${shard.count}, expected i/n with 1 ≤ i ≤ n`,
      'Number the shards from 1.',
    );
  }
  const conditions = suites.flatMap((suite) => conditionsOf(suite, options.profile, options.force));
  const all = suites.flatMap((suite) => blocksOf(suite, conditions, options));
  // Conditions change fastest: had one to stop early, each would have had as many boots as the others.
  const order = [...new Set(all.map(({ boot }) => boot))].flatMap((boot) =>
    shuffled(
      all.filter((block) => block.boot === boot),
      seededRandom(`${options.seed}/blocks/${boot}`),
    ),
  );
  const blocks = order.filter((_, index) => shard === undefined || index % shard.count === shard.index - 1);
  return {
    conditions,
    blocks,
    totalBlocks: all.length,
    hash: planHash(suites, order, options),
    estimateSeconds: estimate(suites, blocks, options),
  };
}

function blocksOf(
  loaded: LoadedSuite,
  conditions: readonly Condition[],
  { profile, seed }: PlanOptions,
): readonly Block[] {
  const { boots, processes } = profileOf(loaded.suite, profile);
  return conditions
    .filter(({ suite }) => suite === loaded.name)
    .flatMap((condition) =>
      Array.from({ length: boots }, (_, boot) => {
        const id = `${loaded.name}/${condition.id}/b${boot}`;
        const random = seededRandom(`${seed}/${id}`);
        const contenders = condition.points.flatMap((point) =>
          point.baseline
            ? [
                { point, replica: 'main' as const },
                { point, replica: 'aa' as const },
              ]
            : [{ point, replica: 'main' as const }],
        );
        // Rounds, each in an order of its own: drift within a boot hits every contender alike.
        const runs = Array.from({ length: processes }, (_, process) =>
          shuffled(contenders, random).map(({ point, replica }) => ({
            id: runId(point, replica, boot, process),
            point,
            replica,
            boot,
            process,
            environmentPadding: Math.floor(random() * 4_096),
          })),
        ).flat();
        return { id, suite: loaded.name, boot, seed: Math.floor(random() * 2 ** 31), runs };
      }),
    );
}

function runId(point: PlannedPoint, replica: Replica, boot: number, process: number): string {
  const suffix = replica === 'aa' ? '.aa' : '';
  return `${point.id.replaceAll('/', '.')}${suffix}.b${boot}.p${process}`;
}

function planHash(suites: readonly LoadedSuite[], order: readonly Block[], options: PlanOptions): string {
  const { profile, clock, accel, arch, kernel, seed, force } = options;
  // Under the virtual clock a run's figures hang on what shares its guest.
  const ofClock = clock === 'virtual' ? { costs: options.costs, runsPerGuest } : { costs: null };
  const identity = {
    options: { profile, clock, accel, arch, kernel, seed, force, ...ofClock },
    suites: suites.map(({ name, sha256 }) => [name, sha256]),
    runs: order.map(({ id, seed: blockSeed, runs }) => [
      id,
      blockSeed,
      runs.map((run) => [run.id, run.environmentPadding]),
    ]),
  };
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex');
}

/** Seconds of wall clock by accelerator; measured under emulation on two cores. */
const wallCost = {
  /** A fresh boot with programs and module in place. */
  boot: { tcg: 8, hardware: 4 },
  /** Starting and stopping a server, scanning the kernel log. */
  start: { tcg: 2, hardware: 0.5 },
  /** Seconds of wall clock per second of the guest's clock. */
  pace: { tcg: 1.2, hardware: 1 },
} as const;

/** CPU seconds of the host under the virtual clock; measured on a Xeon of 2.x GHz. */
const virtualCost = {
  /** Boot and results, and a little more for each of the guest's CPUs. */
  boot: 5,
  bootPerCpu: 0.15,
  /** Starting and stopping a server. */
  run: 2,
  /** Per second of the guest's clock and busy thread, in a window and before it. */
  window: 25,
  warmup: 10,
} as const;

/** What a run under the virtual clock varies: the place of its windows, and for the first in a guest its random numbers. */
export function jobSeed(block: Block, run: PlannedRun): number {
  return Math.floor(seededRandom(`${block.seed}/${run.id}`)() * 2 ** 32);
}

/** Seconds of wall clock that the blocks take. */
function estimate(suites: readonly LoadedSuite[], blocks: readonly Block[], options: PlanOptions): number {
  const { clock, jobs } = options;
  const boots = bootsLeft({ blocks }, clock);
  const seconds = boots.reduce((sum, boot) => {
    const loaded = suites.find(({ name }) => name === boot.block.suite);
    if (loaded === undefined) return sum;
    return sum + (clock === 'virtual' ? virtualSeconds : wallSeconds)(boot, loaded, options);
  }, 0);
  return clock === 'virtual' ? seconds / lanesOf(suites, boots.length, jobs) : seconds;
}

function wallSeconds({ runs }: Boot, loaded: LoadedSuite, { accel, profile }: PlanOptions): number {
  const { windowMs, warmupMs } = windowOf(loaded, profile, 'wall');
  const { windows } = profileOf(loaded.suite, profile);
  const how = accel === 'kvm' || accel === 'hvf' ? 'hardware' : 'tcg';
  const perRun = wallCost.start[how] + (windows * (windowMs + warmupMs) * wallCost.pace[how]) / 1000;
  return wallCost.boot[how] + runs.length * perRun;
}

/** CPU seconds, as guests side by side share what there is. */
function virtualSeconds({ runs }: Boot, loaded: LoadedSuite, { profile }: PlanOptions): number {
  const { windowMs, warmupMs } = windowOf(loaded, profile, 'virtual');
  const { windows } = profileOf(loaded.suite, profile);
  const perThread = (windows * (windowMs * virtualCost.window + warmupMs * virtualCost.warmup)) / 1000;
  const threads = ({ point: { placement } }: PlannedRun): number =>
    placement.serverCpus.length + placement.loadCpus.length;
  const boot = virtualCost.boot + virtualCost.bootPerCpu * loaded.suite.vm.cpus;
  return runs.reduce((sum, run) => sum + virtualCost.run + perThread * threads(run), boot);
}
