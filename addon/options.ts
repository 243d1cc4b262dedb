import {
  checkBoolean,
  checkInteger,
  checkOneOf,
  checkOptions,
  checkPowerOfTwo,
  checkString,
} from './check.js';

/** How to open a ring. What is left out is what fastio.conf says, or libfastio's default. */
export interface RingOptions {
  /** `kernel` demands the module, `user` threads; `auto`, the default, takes the module where it is. */
  readonly backend?: 'auto' | 'kernel' | 'user';
  /** A fastio.conf; it must be there. Without it the documented defaults hold, whatever lies around. */
  readonly conf?: string;
  /** Donated workers, 0 to 63; 0 is inline: this thread executes operations itself. Default: 1. */
  readonly workers?: number;
  /** Hybrid: quarters of a worker's connections that this thread serves itself, 0 to 4. Default: 0. */
  readonly selfWeight?: number;
  /** Operations this thread executes at once in hybrid mode, 0 (no bound) to 255. */
  readonly selfBatch?: number;
  /** Threads for operations that block, 0 to 16. */
  readonly wqWorkers?: number;
  /** A power of two, 1 to 32768. */
  readonly sqEntries?: number;
  /** A power of two, `sqEntries` to 32768: also the most operations in flight on one queue. */
  readonly cqEntries?: number;
  /** µs a worker polls without work before it sleeps, 0 to 10,000,000. */
  readonly idleUs?: number;
  /**
   * The same for the threads that block. Default: 0, unless a conf is given. They would poll beside the JavaScript
   * thread, often on its CPU, for operations that take far longer than waking them.
   */
  readonly wqIdleUs?: number;
  /** CPU of each worker, -1 for any. */
  readonly cpus?: readonly number[];
  /** Bytes one operation carries at most before it is cut into several: a power of two, 1024 to 1048576. Default: 16384. */
  readonly blockBytes?: number;
  /** Buffers each queue has for what arrives, a power of two, 8 to 4096. Default: 128. */
  readonly receiveBuffers?: number;
  /** Most memory for what is being sent, written and read, in bytes, up to 4 GiB. Default: 64 MiB. More waits. */
  readonly memoryBytes?: number;
  /** Do not announce the user-space back end on stderr. Default: false. */
  readonly quiet?: boolean;
}

/** Checked options, as the native half takes them: the same but for what JavaScript works out or keeps to itself. */
export interface NativeOptions extends Omit<RingOptions, 'backend' | 'receiveBuffers' | 'memoryBytes'> {
  /** enum fastio_backend */
  readonly backend: number;
  readonly quiet: boolean;
  readonly blockBytes: number;
  /** Buffers provided to each queue. */
  readonly provided: number;
}

export const ringOptionNames = [
  'backend',
  'conf',
  'workers',
  'selfWeight',
  'selfBatch',
  'wqWorkers',
  'sqEntries',
  'cqEntries',
  'idleUs',
  'wqIdleUs',
  'cpus',
  'blockBytes',
  'receiveBuffers',
  'memoryBytes',
  'quiet',
] as const satisfies readonly (keyof RingOptions)[];

const backends = ['auto', 'kernel', 'user'] as const;
const maxEntries = 32_768;
const maxIdleUs = 10_000_000;
const ranges = {
  workers: [0, 63],
  selfWeight: [0, 4],
  selfBatch: [0, 255],
  wqWorkers: [0, 16],
  idleUs: [0, maxIdleUs],
  wqIdleUs: [0, maxIdleUs],
} as const;

/** @throws TypeError, RangeError for what is no option of a ring. */
export function checkRingOptions(value: unknown): {
  readonly native: NativeOptions;
  readonly maxBlocks: number;
} {
  const options = checkOptions(value, ringOptionNames);
  const native: Record<string, unknown> = {};
  for (const [name, [min, max]] of Object.entries(ranges)) {
    const given = options[name as keyof typeof ranges];
    if (given !== undefined) native[name] = checkInteger(name, given, min, max);
  }
  for (const name of ['sqEntries', 'cqEntries'] as const) {
    if (options[name] !== undefined) native[name] = checkPowerOfTwo(name, options[name], 1, maxEntries);
  }
  if (options.conf !== undefined) native['conf'] = checkString('conf', options.conf);
  else {
    native['workers'] ??= 1;
    native['wqIdleUs'] ??= 0;
  }
  if (options.cpus !== undefined) native['cpus'] = checkCpus(options.cpus);
  const blockBytes = checkPowerOfTwo('blockBytes', options.blockBytes ?? 16_384, 1024, 1_048_576);
  const memoryBytes = checkInteger('memoryBytes', options.memoryBytes ?? 64 * 2 ** 20, blockBytes, 2 ** 32);
  const checked: NativeOptions = {
    ...native,
    backend: backends.indexOf(checkOneOf('backend', options.backend ?? 'auto', backends)),
    quiet: checkBoolean('quiet', options.quiet ?? false),
    blockBytes,
    provided: checkPowerOfTwo('receiveBuffers', options.receiveBuffers ?? 128, 8, 4096),
  };
  return { native: checked, maxBlocks: Math.floor(memoryBytes / blockBytes) };
}

function checkCpus(value: unknown): readonly number[] {
  if (!Array.isArray(value))
    throw Object.assign(new TypeError('"cpus" must be an array'), { code: 'ERR_INVALID_ARG_TYPE' });
  return value.map((cpu: unknown, index) => checkInteger(`cpus[${index}]`, cpu, -1, 1023));
}
