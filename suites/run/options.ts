import type { Report } from '../../vm/progress.js';
import type { AccelChoice, Arch, BootVm, KernelSeries, VmSpec } from '../../vm/vm.js';
import type { Shard } from '../plan/planner.js';
import type { LoadedSuite } from '../schema/load.js';
import type { ClockName, ProfileName } from '../schema/suite.js';

/** Where to report, and when to stop. */
export interface Watch {
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** What a run needs from outside; the command line hands over the real ones, unit tests their own. */
export interface Machinery {
  readonly bootVm: BootVm;
  readonly buildArtifacts: BuildArtifacts;
  /** Without it the virtual clock is refused. */
  readonly prepareClock?: PrepareClock;
}

export interface SuiteOptions extends Machinery, Watch {
  /** Paths, or names of the project's own suites. */
  readonly suites: readonly string[];
  readonly profile: ProfileName;
  readonly clock: ClockName;
  readonly accel: AccelChoice;
  readonly requireAccel: boolean;
  readonly arch: Arch;
  readonly kernel: KernelSeries;
  readonly qemu: VmSpec['qemu'];
  readonly shard?: Shard;
  /** Without it one is drawn, and recorded. */
  readonly seed?: number;
  /** Directory for results; made when absent. Refused when it holds another run, unless resuming. */
  readonly out: string;
  /** Go on with the run in `out`: finished runs are kept, failed ones are run again. */
  readonly resume: boolean;
  /** Run points that need more CPUs than the guest has. */
  readonly force: boolean;
  /** fastio.conf, copied into `out` and to the guest. */
  readonly confFile: string;
  /** Lock files the guest is made from, copied into `out`; together they are the lock hash. */
  readonly lockFiles: readonly string[];
  /** Version of the tool, for the record. */
  readonly toolVersion: string;
  /** Claims file; without it the project's own. */
  readonly claimsFile?: string;
}

/** Files for the guest, laid out below one host directory as they shall stand below /opt/fastio. */
export interface Artifacts {
  /** bin/ is on the servers' PATH; modules/NAME.ko; servers/SUITE/NAME/ for those with sources of their own. */
  readonly directory: string;
  /** sha256 by path below `directory`. */
  readonly sha256: Readonly<Record<string, string>>;
}

export type BuildArtifacts = (
  target: { readonly arch: Arch; readonly kernel: KernelSeries; readonly suites: readonly LoadedSuite[] },
  watch: Watch,
) => Promise<Artifacts>;

/** A guest under the virtual clock: what to add to its specification, and what the simulation charges. */
export interface PreparedClock {
  readonly spec: VmSpec;
  readonly costProfile: string;
  /** One sentence for the report: the cost model's numbers. */
  readonly description: string;
}

/** @param seed Perturbs start offset and vCPU order; the same seed gives the same run, bit for bit. */
export type PrepareClock = (spec: VmSpec, seed: number, watch: Watch) => Promise<PreparedClock>;
