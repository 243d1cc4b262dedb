import type { Report } from './progress.js';

/** Guest architectures, by the names users type. Debian calls the second one amd64. */
export const architectures = ['arm64', 'x86_64'] as const;
export type Arch = (typeof architectures)[number];

export const accelerators = ['auto', 'kvm', 'hvf', 'tcg'] as const;
/** What the user asked for. */
export type AccelChoice = (typeof accelerators)[number];
/** What a guest really runs on. */
export type Accel = Exclude<AccelChoice, 'auto'>;

/** Kernel series with a committed lock file; the first is the default. */
export const kernels = ['6.12', '6.1'] as const;
export type KernelSeries = (typeof kernels)[number];

/** Everything that decides what a guest is. Equal specs share a template snapshot. */
export interface VmSpec {
  readonly arch: Arch;
  readonly kernel: KernelSeries;
  /** vCPUs, 1 to 64. */
  readonly cpus: number;
  /** 256 to 1,048,576. */
  readonly memoryMiB: number;
  /** Where `qemu-system-*` comes from: the locked tools root, or the host's PATH. */
  readonly qemu: 'locked' | 'host';
  /** Loopback ports of the host that lead to ports of the guest; the guest has no network without one. */
  readonly forwards: readonly PortForward[];
  /** Words added to the kernel command line. */
  readonly kernelArgs: readonly string[];
  /** Extra QEMU arguments (a plugin, a trace). A guest that has any is booted afresh, never from a template. */
  readonly qemuArgs: readonly string[];
}

export interface PortForward {
  /** 0 lets the system choose. */
  readonly hostPort: number;
  readonly guestPort: number;
}

/** A running guest. Disposing it powers it off, whatever happened in between. */
export interface Vm extends AsyncDisposable {
  readonly name: string;
  readonly info: VmInfo;
  /** Aborts with the reason (panic, hang, QEMU gone) as soon as the guest can no longer answer. */
  readonly died: AbortSignal;
  /** Runs argv in the guest as root. A non-zero status is a result, not an error. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Copies a host file or directory to a path in the guest, replacing files that are there. */
  push(hostPath: string, guestPath: string, options?: WaitOptions): Promise<void>;
  /** Copies a guest file or directory to a path on the host. */
  pull(guestPath: string, hostPath: string, options?: WaitOptions): Promise<void>;
  /** Kernel log lines since boot, oldest first. */
  kernelLog(options?: WaitOptions): Promise<readonly string[]>;
  /** Kernel warnings, oopses and reports seen on the console since `since` (a mark from an earlier call; 0 is boot). */
  kernelTrouble(since?: number): Promise<KernelTrouble>;
}

export interface VmInfo {
  readonly arch: Arch;
  /** As `uname -r` prints it. */
  readonly kernelRelease: string;
  readonly accel: Accel;
  /** Why this accelerator: one clause for people. */
  readonly accelReason: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly qemuVersion: string;
  readonly qemuPid: number;
  readonly startedFrom: 'boot' | 'template';
  readonly forwards: readonly PortForward[];
  /** Where console.log and QEMU's own messages are. */
  readonly directory: string;
}

export interface WaitOptions {
  readonly signal?: AbortSignal;
  /** In milliseconds as on hardware; multiplied by the accelerator's slowness. Default 60,000. */
  readonly timeoutMs?: number;
}

export interface ExecOptions extends WaitOptions {
  /** Bytes for the command's stdin; without it stdin is /dev/null. */
  readonly stdin?: AsyncIterable<Uint8Array> | Uint8Array | string;
  /** Called with output as it arrives; the result then holds no copy of that stream. */
  readonly onStdout?: (chunk: Uint8Array) => void;
  readonly onStderr?: (chunk: Uint8Array) => void;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface ExecResult {
  /** Exit status, or 128 + signal number as a shell reports it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface KernelTrouble {
  /** Pass it back as `since` to see only what comes later. */
  readonly mark: number;
  readonly reports: readonly KernelReport[];
}

export interface KernelReport {
  readonly severity: 'panic' | 'oops' | 'warning' | 'hang';
  /** The console line that was recognised. */
  readonly headline: string;
  /** The lines that followed it, at most 60. */
  readonly lines: readonly string[];
}

export interface BootOptions {
  /** 1 to 32 of [a-z0-9-]; two guests of one name cannot run at once. */
  readonly name: string;
  readonly accel: AccelChoice;
  /** Refuse to run without hardware acceleration, or without the one named in `accel`. */
  readonly requireAccel: boolean;
  readonly report: Report;
  readonly signal: AbortSignal;
  /** When set, the guest outlives this process and stops only by `down` (see machine/keeper.ts). */
  readonly detach?: boolean;
  /** Multiplies the deadlines of the boot, for a guest that has work to do before it answers. Default 1. */
  readonly patience?: number;
}

/** One per back end. */
export type BootVm = (spec: VmSpec, options: BootOptions) => Promise<Vm>;
