import type { Report } from '../../vm/progress.js';
import type { Job, JobResult } from '../../vm/clock/job.js';
import type { AccelChoice, Arch, BootVm, KernelSeries, VmSpec } from '../../vm/vm.js';
import type { Shard } from '../plan/planner.js';
import type { LoadedSuite } from '../schema/load.js';
import type { ClockChoice, ClockName, ProfileName } from '../schema/suite.js';

/** Where to report, and when to stop. */
export interface Watch {
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** What a run needs from outside; the command line hands over the real ones, unit tests their own. */
export interface Machinery {
  /** For guests by the wall clock. */
  readonly bootVm: BootVm;
  /** For guests under the virtual clock. */
  readonly runJob: RunJob;
  readonly buildArtifacts: BuildArtifacts;
  readonly probeHardware: ProbeHardware;
}

export interface SuiteOptions extends Machinery, Watch {
  /** Paths, or names of the project's own suites. */
  readonly suites: readonly string[];
  readonly profile: ProfileName;
  readonly clock: ClockChoice;
  /** Name of the virtual clock's cost profile; without it that of the run being resumed, or the clock's default. */
  readonly costs?: string;
  /** Guests side by side under the virtual clock; without it as many as fit. */
  readonly jobs?: number;
  /** Also write, for each run under the virtual clock, where its time and its line transfers went. */
  readonly profileLines: boolean;
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

/** Files for the guests of a suite, laid out below one host directory as they shall stand below /opt/fastio. */
export interface Artifacts {
  /** bin/ is on the servers' PATH; modules/NAME.ko; servers/SUITE/NAME/ for those with sources of their own. */
  readonly directory: string;
  /** sha256 by path below `directory`. */
  readonly sha256: Readonly<Record<string, string>>;
}

export type BuildArtifacts = (
  target: {
    readonly arch: Arch;
    readonly kernel: KernelSeries;
    readonly clock: ClockName;
    readonly suite: LoadedSuite;
  },
  watch: Watch,
) => Promise<Artifacts>;

/** What is read of a job's result. */
export type MeasuredJob = Omit<JobResult, 'machine'> & {
  readonly machine: Pick<JobResult['machine'], 'costProfile' | 'description'>;
};

/**
 * Has a guest under the virtual clock do a job. Equal arguments give equal results, bit for bit.
 * @throws FastioError of the boot; a step that failed is a result.
 */
export type RunJob = (
  spec: VmSpec,
  job: Job,
  clock: { readonly seed: number; readonly costProfile: string; readonly profile: boolean },
  watch: Watch & {
    readonly name: string;
    /** How many times as long as usual the job may take. */
    readonly patience: number;
    /** Called, sooner or later, with each step the job begins. */
    readonly onStep: (group: string, step: string) => void;
  },
) => Promise<MeasuredJob>;

/** Whether this host's processor can run guests of an architecture itself, and why. */
export type ProbeHardware = (
  target: Pick<VmSpec, 'arch' | 'kernel' | 'qemu'>,
  watch: Watch,
) => Promise<{ readonly usable: boolean; readonly reason: string }>;
