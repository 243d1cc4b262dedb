import { getSystemErrorName } from 'node:util';

/** A failed operation, with the properties of Node's own system errors. */
export interface SystemError extends Error {
  /** `ECONNRESET` */
  readonly code: string;
  /** -104 */
  readonly errno: number;
  /** `recv` */
  readonly syscall: string;
}

/** @param result -errno. */
export function systemError(syscall: string, result: number, more: object = {}): SystemError {
  const code = getSystemErrorName(result);
  return Object.assign(new Error(`${syscall} ${code}`), { errno: result, code, syscall }, more);
}

export function codedError(code: string, message: string): Error & { readonly code: string } {
  return Object.assign(new Error(message), { code });
}

/** What every call on a ring that is closed, or closing, fails with. */
export function closedError(): Error & { readonly code: string } {
  return codedError('ERR_FASTIO_CLOSED', 'the ring is closed');
}

/** As Node's own: name `AbortError`, code `ABORT_ERR`, and the signal's reason as cause. */
export function abortError(signal: AbortSignal): Error & { readonly code: string } {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  return Object.assign(error, { name: 'AbortError', code: 'ABORT_ERR' });
}
