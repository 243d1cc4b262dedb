import { FastioError } from '../vm/errors.js';
import type { ErrorCode } from '../vm/errors.js';

/** What a shell or a CI job can tell apart; the README lists them. */
export const exitCodes = { good: 0, failed: 1, usage: 2, environment: 3, kernel: 4 } as const;

const byCode: Readonly<Record<ErrorCode, number>> = {
  USAGE: exitCodes.usage,
  INPUT_INVALID: exitCodes.usage,
  LOCK_INVALID: exitCodes.usage,
  HOST_UNSUPPORTED: exitCodes.environment,
  TOOL_MISSING: exitCodes.environment,
  NETWORK: exitCodes.environment,
  PACKAGE_UNAVAILABLE: exitCodes.environment,
  PACKAGE_CORRUPT: exitCodes.environment,
  CACHE_UNREADABLE: exitCodes.environment,
  DISK_FULL: exitCodes.environment,
  ACCEL_UNAVAILABLE: exitCodes.environment,
  PORT_TAKEN: exitCodes.environment,
  QEMU_START: exitCodes.environment,
  QEMU_GONE: exitCodes.kernel,
  GUEST_NOT_RUNNING: exitCodes.environment,
  GUEST_EXISTS: exitCodes.environment,
  GUEST_BUSY: exitCodes.environment,
  BUILD_WAY_MISSING: exitCodes.environment,
  ENGINE_MISSING: exitCodes.environment,
  ENGINE_REFUSED: exitCodes.environment,
  CONTAINER_GONE: exitCodes.environment,
  GUEST_PANIC: exitCodes.kernel,
  GUEST_OOPS: exitCodes.kernel,
  GUEST_WARNING: exitCodes.kernel,
  GUEST_HANG: exitCodes.kernel,
  BUILD_FAILED: exitCodes.failed,
  GUEST_COMMAND: exitCodes.failed,
  TIMEOUT: exitCodes.failed,
  // As a shell reports SIGINT.
  INTERRUPTED: 130,
};

/** The exit code of anything thrown; what is not a FastioError is a bug and counts as a failure. */
export function exitCodeOf(error: unknown): number {
  return error instanceof FastioError ? byCode[error.code] : exitCodes.failed;
}
