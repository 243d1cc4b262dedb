import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { FastioError } from '../errors.js';
import type { Work } from '../image/work.js';
import { runDir } from '../paths.js';
import type { VmSpec } from '../vm.js';
import { buildClock } from './build.js';
import { defaultCostProfile } from './profiles.js';
import { costArguments, describeCosts, readCostProfile, type CostProfile } from './costs.js';

/** ns a vCPU runs before the next has its turn, where nothing is measured; the boot is fastest around here. */
const coarseNs = 2_000;
/** Inside windows: at most half the shortest contended critical section, or locks look faster than they are. */
const fineNs = 20;
/** The start of a window moves by less than one of the kernel's ticks from seed to seed. */
const offsetRangeNs = 4_000_000;

export interface ClockOptions {
  /** A name in the cost file. */
  readonly costProfile?: string;
  /** Without it the project's own. */
  readonly costFile?: string;
  /** Overrides the profile: `all` finds every line that moves between CPUs, for about the price of `ordered`. */
  readonly lines?: CostProfile['lines'];
  /** Whether windows also say which code their time went to, for profileCode(); it makes them long. */
  readonly profile?: boolean;
  /** Overrides the quantum inside windows, 1 to 100,000 ns. */
  readonly fineNs?: number;
  /** 0 to 2^32 - 1. Equal seeds give equal runs; another one perturbs random numbers and the windows' start. */
  readonly seed: number;
  /**
   * Whether time passes by the wall while all vCPUs sleep, from the boot on: for guests that wait for their user.
   * Otherwise it jumps from timer to timer, as fast as the host can.
   */
  readonly pace: boolean;
  /** Where the plugin writes its windows; without it a new file in the run directory. */
  readonly statsFile?: string;
}

/** What makes a guest of a specification one that keeps virtual time. */
export interface ClockMachine {
  readonly spec: VmSpec;
  readonly statsFile: string;
  readonly costProfile: string;
  /** One sentence for the report: the cost model's numbers. */
  readonly description: string;
  /** Host path of the guest's tool `vclock`. */
  readonly tool: string;
  /** For `vclock settle`: how far from the full second a window starts. */
  readonly settleOffsetNs: number;
}

/**
 * Gives a guest the virtual clock. Such guests are emulated by one host thread, boot afresh (a snapshot does not hold
 * the plugin's state), and have no network.
 * @throws FastioError USAGE or INPUT_INVALID for a guest or cost model that cannot be.
 */
export async function prepareClock(spec: VmSpec, options: ClockOptions, work: Work): Promise<ClockMachine> {
  checkSpec(spec);
  checkNumber('seed', options.seed, 0, 2 ** 32 - 1);
  checkNumber('quantum in ns', options.fineNs ?? fineNs, 1, 100_000);
  const name = options.costProfile ?? defaultCostProfile;
  const read = await readCostProfile(name, options.costFile);
  const profile = { ...read, lines: options.lines ?? read.lines };
  const { plugin, tool } = await buildClock(work);
  const statsFile = options.statsFile ?? join(runDir(), `clock-${randomBytes(6).toString('hex')}.jsonl`);
  const settings = [
    plugin,
    `coarse=${coarseNs}`,
    `fine=${options.fineNs ?? fineNs}`,
    ...costArguments(profile, spec.memoryMiB),
    ...(options.profile === true ? ['profile=on'] : []),
    ...(options.pace ? ['pace=on'] : []),
    `stats=${statsFile}`,
  ];
  return {
    spec: {
      ...spec,
      kernelArgs: [...spec.kernelArgs, ...kernelArguments],
      qemuArgs: [...spec.qemuArgs, ...machineArguments(profile.cpu, options.seed, settings)],
    },
    statsFile,
    costProfile: name,
    description: describeCosts(name, profile),
    tool,
    settleOffsetNs: settleOffsetNs(options.seed),
  };
}

/** The same code at the same addresses, and the same code: what the kernel adds per processor model is left out. */
const kernelArguments = ['nokaslr', 'mitigations=off'];

function machineArguments(cpu: string, seed: number, settings: readonly string[]): readonly string[] {
  return [
    ...['-accel', 'tcg,thread=single'],
    // A counter of 1 GHz, so that the guest reads whole ns.
    ...['-cpu', `${cpu},cntfrq=1000000000`],
    ...['-seed', `${seed}`, '-rtc', 'base=2026-01-01T00:00:00,clock=vm'],
    // Devices answer at once and on the vCPUs' thread, not when the main loop gets to it.
    ...['virtio-serial-pci', 'virtio-blk-pci'].flatMap((device) => ['-global', `${device}.ioeventfd=off`]),
    ...['-plugin', settings.map((word) => word.replaceAll(',', ',,')).join(',')],
  ];
}

/** How far from a full second a seed's window starts, 0 to 4 ms; neighbouring seeds are spread over the range. */
export function settleOffsetNs(seed: number): number {
  return (Math.imul(seed, 0x9e3779b1) >>> 0) % offsetRangeNs;
}

function checkSpec({ arch, cpus, forwards }: VmSpec): void {
  if (arch !== 'arm64') {
    throw usage(
      `the virtual clock: found a guest of ${arch}, expected arm64`,
      'Use --arch arm64, or --clock wall.',
    );
  }
  checkNumber('vCPUs under the virtual clock', cpus, 1, 64);
  if (forwards.length > 0) {
    throw usage(
      'the virtual clock: found a guest with a network, expected none: the host would set the pace',
      'Leave its forwarded ports out, or use --clock wall.',
    );
  }
}

function checkNumber(what: string, found: number, least: number, most: number): void {
  if (Number.isInteger(found) && found >= least && found <= most) return;
  throw usage(
    `${what}: found ${found}, expected a whole number from ${least} to ${most}`,
    'Correct the number.',
  );
}

function usage(message: string, remedy: string): FastioError {
  return new FastioError('USAGE', message, remedy);
}
