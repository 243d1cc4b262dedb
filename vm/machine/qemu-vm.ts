import { FastioError } from '../errors.js';
import type { Report } from '../progress.js';
import type { Accel, Arch, BootVm, KernelSeries, KernelReport, Vm, VmInfo, VmSpec } from '../vm.js';

/** What `status` shows of one guest. */
export interface GuestStatus {
  readonly name: string;
  /** `dead`: the guest panicked, hung or lost its QEMU; its keeper still holds the logs until `stopVm`. */
  readonly state: 'starting' | 'running' | 'dead';
  /** Absent while starting. */
  readonly info?: VmInfo;
  readonly spec: VmSpec;
  /** True once the guest outlives the process that booted it. */
  readonly detached: boolean;
  readonly keeperPid: number;
  /** Since the keeper was started. */
  readonly upMs: number;
  /** Why a dead guest died. */
  readonly died?: string;
}

/** The answer to whether one accelerator works here for one guest architecture. */
export interface AccelProbe {
  readonly accel: Accel;
  readonly usable: boolean;
  /** One clause for people. */
  readonly reason: string;
}

/** Boots a guest, or resumes it from its template snapshot. @throws FastioError, see vm/errors.ts. */
export const bootQemu: BootVm = () => Promise.reject(pending());

/**
 * Attaches to a running guest. Disposing the result only detaches; `stopVm` powers the guest off.
 * @throws FastioError GUEST_NOT_RUNNING.
 */
export function connectVm(name: string, options?: { readonly signal?: AbortSignal }): Promise<Vm> {
  void name;
  void options;
  return Promise.reject(pending());
}

/** Every guest of this user, by name. */
export function listVms(): Promise<readonly GuestStatus[]> {
  return Promise.reject(pending());
}

/** Powers a guest off cleanly, by force when it does not answer. @throws FastioError GUEST_NOT_RUNNING. */
export function stopVm(name: string, options: { readonly signal: AbortSignal }): Promise<void> {
  void name;
  void options;
  return Promise.reject(pending());
}

/** Removes what killed runs left behind; says what. Called at each boot. */
export function sweepStale(): Promise<readonly string[]> {
  return Promise.reject(pending());
}

/** Tries each accelerator by booting the guest's kernel with it; the best usable one comes first. */
export function probeAccelerators(
  arch: Arch,
  kernel: KernelSeries,
  options: { readonly qemu: VmSpec['qemu']; readonly report: Report; readonly signal: AbortSignal },
): Promise<readonly AccelProbe[]> {
  void arch;
  void kernel;
  void options;
  return Promise.reject(pending());
}

/** The error a kernel report ends a run with. */
export function kernelReportToError(report: KernelReport): FastioError {
  return new FastioError('GUEST_WARNING', report.headline, 'Read console.log.', { detail: report.lines });
}

function pending(): FastioError {
  return new FastioError('HOST_UNSUPPORTED', 'guests cannot be booted yet', 'Wait for vm/machine.');
}
