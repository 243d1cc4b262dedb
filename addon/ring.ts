import { acceptIterator, closeDescriptor } from './accept.js';
import { errnos, opcodes } from './abi.js';
import {
  checkBytes,
  checkDescriptor,
  checkFunction,
  checkOptions,
  checkPosition,
  checkSignal,
} from './check.js';
import type { Core } from './core.js';
import { openCore } from './core.js';
import { abortError, closedError, systemError } from './errors.js';
import type { QueueStats } from './native.js';
import type { RingOptions } from './options.js';
import { checkRingOptions } from './options.js';
import type { Stoppable, TransferDone } from './transfer.js';
import { receive, transfer } from './transfer.js';

export interface OperationOptions {
  /** Aborting rejects with an AbortError, unless the operation was done already. */
  readonly signal?: AbortSignal;
}
export interface FileOptions extends OperationOptions {
  /** Byte of the file, or null, the default, for the file's own position (streams need that). */
  readonly position?: number | bigint | null;
}
/** @param bytes How many moved; 0 on error. */
export type BytesCallback = (error: Error | null, bytes: number) => void;

/**
 * FastIO's rings for one thread. Functions that return a promise reject, also for bad arguments; those that take a
 * callback throw for bad arguments at once and otherwise call back, never before they return. An open ring keeps the
 * process alive only while operations are in flight.
 */
export interface Ring extends AsyncDisposable {
  readonly backend: 'kernel' | 'user';
  /** Donated workers. */
  readonly workers: number;
  readonly closed: boolean;
  /** Operations in flight. */
  readonly active: number;
  /** Connections of a listening socket, as descriptors that this ring owns: end them with closeDescriptor(). */
  accept(fd: number, options?: OperationOptions): AsyncIterableIterator<number>;
  /** Receives what is there, up to the buffer's length or `blockBytes`. 0 is the end of the stream. */
  recv(fd: number, buffer: NodeJS.ArrayBufferView, options?: OperationOptions): Promise<number>;
  recv(fd: number, buffer: NodeJS.ArrayBufferView, callback: BytesCallback): void;
  /** Sends all of it. The bytes are taken when their turn comes: leave them alone until it has ended. */
  send(fd: number, buffer: NodeJS.ArrayBufferView, options?: OperationOptions): Promise<number>;
  send(fd: number, buffer: NodeJS.ArrayBufferView, callback: BytesCallback): void;
  /** Reads until the buffer is full or the file ends; from a stream, what is there. */
  read(fd: number, buffer: NodeJS.ArrayBufferView, options?: FileOptions): Promise<number>;
  read(
    fd: number,
    buffer: NodeJS.ArrayBufferView,
    position: number | bigint | null,
    callback: BytesCallback,
  ): void;
  /** Writes all of it. */
  write(fd: number, buffer: NodeJS.ArrayBufferView, options?: FileOptions): Promise<number>;
  write(
    fd: number,
    buffer: NodeJS.ArrayBufferView,
    position: number | bigint | null,
    callback: BytesCallback,
  ): void;
  /** Closes a descriptor; operations of an accepted one that wait end with ECANCELED. */
  closeDescriptor(fd: number): Promise<void>;
  stats(): readonly QueueStats[];
  /** Cancels what is in flight, closes the descriptors it owns, ends the workers. Never rejects. */
  close(): Promise<void>;
}

/** After this long, what cannot be cancelled (a disk that does not answer) no longer delays close(). */
const closeMs = 2_000;
const cores = new WeakMap<Ring, Core>();

/** What the server needs of a ring. */
export function coreOf(ring: Ring): Core {
  const core = cores.get(ring);
  if (core === undefined)
    throw Object.assign(new TypeError('"ring" must be a Ring'), { code: 'ERR_INVALID_ARG_TYPE' });
  return core;
}

/**
 * @throws TypeError, RangeError for bad options; Error with code, errno and syscall `fastio_setup` when the system says
 * no, with what to do about it in the message.
 */
export function openRing(options?: RingOptions): Ring {
  const { native, maxBlocks } = checkRingOptions(options);
  const core = openCore(native, maxBlocks);
  let closing: Promise<void> | undefined;

  /** @throws Error ERR_FASTIO_CLOSED */
  const open = (): void => {
    if (closing !== undefined || core.isClosed()) throw closedError();
  };

  const operation =
    (name: Name) =>
    (fd: unknown, buffer: unknown, ...rest: unknown[]): Promise<number> | undefined => {
      const isFile = name === 'read' || name === 'write';
      const callback = rest[isFile ? 1 : 0];
      if (rest.length > (isFile ? 1 : 0) && (isFile || typeof callback === 'function')) {
        checkFunction('callback', callback);
        open();
        begin(core, name, { fd, buffer, position: isFile ? rest[0] : null }, callback as BytesCallback);
        return undefined;
      }
      return new Promise((resolve, reject) => {
        open();
        const known = isFile ? (['signal', 'position'] as const) : (['signal'] as const);
        const options: { signal?: unknown; position?: unknown } = checkOptions(rest[0], known);
        begin(core, name, { fd, buffer, ...options }, (error, bytes) => {
          if (error === null) resolve(bytes);
          else reject(error);
        });
      });
    };

  const ring = {
    backend: core.native.backend,
    workers: core.native.workers,
    get closed() {
      return closing !== undefined || core.isClosed();
    },
    get active() {
      return core.active();
    },
    accept(fd: number, given?: OperationOptions) {
      const listener = checkDescriptor(fd);
      const { signal } = checkOptions(given, ['signal']);
      const checked = checkSignal(signal);
      open();
      return acceptIterator(core, listener, checked);
    },
    recv: operation('recv'),
    send: operation('send'),
    read: operation('read'),
    write: operation('write'),
    closeDescriptor: (fd: number) =>
      new Promise<void>((resolve, reject) => {
        const checked = checkDescriptor(fd);
        open();
        closeDescriptor(core, checked, (result) => {
          if (result === 0) resolve();
          else reject(systemError('close', result));
        });
      }),
    stats: () => {
      open();
      return core.native.queues.map((_, index) => core.native.stats(index));
    },
    close: () => (closing ??= closeCore(core)),
    [Symbol.asyncDispose]: () => (closing ??= closeCore(core)),
  } as Ring;
  cores.set(ring, core);
  return ring;
}

type Name = 'recv' | 'send' | 'read' | 'write';

interface Given {
  readonly fd: unknown;
  readonly buffer: unknown;
  readonly position?: unknown;
  readonly signal?: unknown;
}

function begin(core: Core, name: Name, given: Given, callback: BytesCallback): void {
  const fd = checkDescriptor(given.fd);
  const bytes = checkBytes(given.buffer, name === 'recv' ? 1 : 0);
  const position = checkPosition(given.position);
  const signal = checkSignal(given.signal);
  if (signal?.aborted === true) {
    process.nextTick(callback, abortError(signal), 0);
    return;
  }
  const running: Stoppable = { operation: undefined, stopped: false };
  let ended = false;
  const finish = (result: number, moved: number): void => {
    if (ended) return;
    ended = true;
    signal?.removeEventListener('abort', onAbort);
    if (result >= 0) callback(null, result);
    else if (signal?.aborted === true && result === -errnos.ECANCELED) callback(abortError(signal), 0);
    else callback(systemError(name, result, { bytes: moved }), 0);
  };
  const onAbort = (): void => {
    running.stopped = true;
    // Without one it waits for memory, which may take long.
    if (running.operation === undefined) process.nextTick(finish, -errnos.ECANCELED, 0);
    else core.cancel(running.operation);
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  if (name === 'recv') receiveInto(core, fd, bytes, running, finish);
  else transfer(core, { opcode: opcodes[name], fd, position }, bytes, running, finish);
}

function receiveInto(
  core: Core,
  fd: number,
  bytes: Uint8Array,
  running: Stoppable,
  finish: TransferDone,
): void {
  const length = Math.min(bytes.byteLength, core.blocks.blockBytes);
  running.operation = receive(core, fd, length, false, (result, _more, data) => {
    if (result === -errnos.ENOBUFS && !running.stopped) {
      // Others had all buffers at that moment; they are given back as fast as they are read.
      receiveInto(core, fd, bytes, running, finish);
    } else if (result > 0 && data !== undefined && bytes.byteLength < result) {
      finish(-errnos.EFAULT, 0);
    } else {
      if (result > 0) data?.copy(bytes, 0, 0, result);
      finish(result === -errnos.ENOBUFS ? -errnos.ECANCELED : result, Math.max(result, 0));
    }
  });
}

/** Ends what is in flight, closes what the ring owns, and stops the workers when that is done or takes too long. */
async function closeCore(core: Core): Promise<void> {
  if (core.isClosed()) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, closeMs);
    core.onIdle = () => {
      clearTimeout(timer);
      resolve();
    };
    core.cancelAll();
    // A call for each of all possible descriptors would take longer than everything else here.
    for (let fd = core.owned.indexOf(1); fd >= 0; fd = core.owned.indexOf(1, fd + 1)) {
      closeDescriptor(core, fd, () => undefined);
    }
    if (core.active() === 0) core.onIdle();
  });
  core.stop();
  core.onIdle = undefined;
}
