import { FastioError, type ErrorCode } from '../errors.js';
import type { Accel, KernelReport, VmSpec } from '../vm.js';

/** What a keeper is told to run. Plain JSON, so that it can cross to another process. */
export interface Plan {
  readonly name: string;
  readonly spec: VmSpec;
  readonly accel: Accel;
  readonly accelReason: string;
  /** BootOptions.patience. */
  readonly patience: number;
  readonly qemuVersion: string;
  readonly directory: string;
  /** The whole QEMU command, wrappers included. */
  readonly qemu: readonly string[];
  /** Resume from this snapshot file instead of booting. */
  readonly resumeFrom?: string;
  /** What the kernel complained of before that snapshot was taken. */
  readonly earlierReports?: readonly KernelReport[];
  /** Boot, save a snapshot to this file, and end; the guest never serves anybody. */
  readonly saveTo?: string;
}

/** A FastioError as JSON. */
export interface WireError {
  readonly code: ErrorCode | undefined;
  readonly message: string;
  readonly remedy: string;
  readonly detail: readonly string[];
}

export function encodeError(error: unknown): WireError {
  if (error instanceof FastioError) {
    return { code: error.code, message: error.message, remedy: error.remedy, detail: error.detail };
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: undefined, message: stack, remedy: '', detail: [] };
}

/** The error a keeper sent; one that was no FastioError there is a bug there, and stays an Error with its stack. */
export function decodeError(wire: unknown): Error {
  const { code, message, remedy, detail } = wire as WireError;
  if (code === undefined) return new Error(`in the guest's keeper: ${message}`);
  return new FastioError(code, message, remedy, { detail });
}
