/**
 * Every failure a user can act on, by what went wrong. The command line maps each code to an exit code in
 * one place (cli/exit.ts), so nothing below it knows about processes.
 */
export type ErrorCode =
  // The caller asked for something that makes no sense: exit 2.
  | 'USAGE'
  | 'INPUT_INVALID'
  | 'LOCK_INVALID'
  // The environment cannot do it: exit 3.
  | 'HOST_UNSUPPORTED'
  | 'TOOL_MISSING'
  | 'NETWORK'
  | 'PACKAGE_UNAVAILABLE'
  | 'PACKAGE_CORRUPT'
  | 'CACHE_UNREADABLE'
  | 'DISK_FULL'
  | 'ACCEL_UNAVAILABLE'
  | 'PORT_TAKEN'
  | 'QEMU_START'
  | 'QEMU_GONE'
  | 'GUEST_NOT_RUNNING'
  | 'GUEST_EXISTS'
  | 'GUEST_BUSY'
  | 'BUILD_WAY_MISSING'
  | 'ENGINE_MISSING'
  | 'ENGINE_REFUSED'
  | 'CONTAINER_GONE'
  // The guest kernel warned, oopsed, hung or died: exit 4.
  | 'GUEST_PANIC'
  | 'GUEST_OOPS'
  | 'GUEST_WARNING'
  | 'GUEST_HANG'
  // Something ran and said no: exit 1.
  | 'BUILD_FAILED'
  | 'GUEST_COMMAND'
  | 'TIMEOUT'
  | 'INTERRUPTED';

/** A failure the user can act on. Anything else that is thrown is a bug and keeps its stack. */
export class FastioError extends Error {
  override readonly name = 'FastioError';
  /**
   * @param remedy One imperative sentence: what to type or read next.
   * @param detail Lines worth seeing below the message, such as the last of a guest's console.
   */
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly remedy: string,
    options?: ErrorOptions & { readonly detail?: readonly string[] },
  ) {
    super(message, options);
    this.detail = options?.detail ?? [];
  }

  readonly detail: readonly string[];
}

/** The system error code (`ENOENT`, `ENOSPC`, ...) of something thrown by Node, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  // By shape: errors of Node's own modules come from another realm when code runs inside jest.
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
