import { maxBytes } from './abi.js';

/** As Node's own argument errors: a TypeError with code ERR_INVALID_ARG_TYPE. */
function typeError(name: string, expected: string, found: unknown): TypeError {
  const shown = found === null ? 'null' : Array.isArray(found) ? 'an array' : typeof found;
  const error = new TypeError(`"${name}" must be ${expected}: found ${shown}`);
  return Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
}

function rangeError(name: string, expected: string, found: unknown): RangeError {
  const error = new RangeError(`"${name}" must be ${expected}: found ${String(found)}`);
  return Object.assign(error, { code: 'ERR_OUT_OF_RANGE' });
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE. */
export function checkInteger(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number') throw typeError(name, 'a number', value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw rangeError(name, `an integer from ${min} to ${max}`, value);
  }
  return value;
}

export function checkPowerOfTwo(name: string, value: unknown, min: number, max: number): number {
  const number = checkInteger(name, value, min, max);
  if ((number & (number - 1)) !== 0) throw rangeError(name, 'a power of two', value);
  return number;
}

export function checkDescriptor(value: unknown): number {
  return checkInteger('fd', value, 0, 2 ** 31 - 1);
}

export function checkBoolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw typeError(name, 'a boolean', value);
  return value;
}

export function checkString(name: string, value: unknown): string {
  if (typeof value !== 'string') throw typeError(name, 'a string', value);
  if (value === '' || value.includes('\0'))
    throw rangeError(name, 'not empty and without NUL', JSON.stringify(value));
  return value;
}

export function checkOneOf<T extends string>(name: string, value: unknown, choices: readonly T[]): T {
  if (typeof value !== 'string') throw typeError(name, 'a string', value);
  const choice = choices.find((one) => one === value);
  if (choice === undefined) throw rangeError(name, `one of ${choices.join(', ')}`, value);
  return choice;
}

/** The bytes a view shows. @param least 1 where an operation on nothing would mean something else. */
export function checkBytes(value: unknown, least: 0 | 1): Uint8Array {
  if (!ArrayBuffer.isView(value)) throw typeError('buffer', 'a Buffer, TypedArray or DataView', value);
  const { buffer, byteOffset, byteLength } = value;
  // A detached one has no bytes, either.
  if (byteLength < least || byteLength > maxBytes) {
    throw rangeError('buffer.byteLength', `from ${least} to ${maxBytes}`, byteLength);
  }
  // A fresh view: of one with a fixed length it keeps the length, and Buffer subclasses stay out of the way.
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** A place in a file, or null for the file's own position. */
export function checkPosition(value: unknown): bigint | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'bigint') {
    if (value < 0n || value >= 1n << 63n) throw rangeError('position', 'from 0 to 2^63 - 1', value);
    return value;
  }
  return BigInt(checkInteger('position', value, 0, Number.MAX_SAFE_INTEGER));
}

export function checkSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  // Not instanceof: signals of other realms count.
  if (typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value) {
    return value as AbortSignal;
  }
  throw typeError('signal', 'an AbortSignal', value);
}

export function checkFunction(name: string, value: unknown): void {
  if (typeof value !== 'function') throw typeError(name, 'a function', value);
}

/** An object all of whose keys are known; undefined is none. */
export function checkOptions<K extends string>(
  value: unknown,
  known: readonly K[],
): Partial<Record<K, unknown>> {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw typeError('options', 'an object', value);
  }
  const unknown = Object.keys(value).find((key) => !known.some((one) => one === key));
  if (unknown !== undefined)
    throw rangeError('options', `one with the keys ${known.join(', ')}`, `"${unknown}"`);
  return value;
}
