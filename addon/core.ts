import type { Blocks } from './blocks.js';
import { makeBlocks, viewsOf } from './blocks.js';
import {
  cqeBufferShift,
  cqeFlags,
  cqeWords,
  errnos,
  makesDescriptor,
  opcodes,
  sqeFlags,
  sqeWords,
  stateWords,
} from './abi.js';
import type { Entry } from './entry.js';
import { emptyEntry } from './entry.js';
import type { NativeRing } from './native.js';
import { loadNative } from './native.js';
import type { NativeOptions } from './options.js';

/**
 * Called for every completion.
 * @param result What the system call would have returned, or -errno.
 * @param more Whether the operation goes on.
 * @param data The provided buffer with `result` bytes in it, valid during the call only.
 */
export type Completion = (result: number, more: boolean, data: Buffer | undefined) => void;

/** An operation in flight. */
export interface Operation {
  /** Lower half of its user_data. */
  readonly index: number;
  /** Upper half of its user_data: tells this use of the index from those before. */
  high: number;
  queue: number;
  done: Completion;
  /** Whether it keeps the process alive. */
  held: boolean;
  active: boolean;
}

/** Rings, memory and operations in flight. The only place that touches memory shared with workers. */
export interface Core {
  readonly native: NativeRing;
  readonly blocks: Blocks;
  /** Descriptors that the ring accepted and will close: 1 at their number. */
  readonly owned: Uint8Array;
  readonly isClosed: () => boolean;
  readonly active: () => number;
  /** Submits; the completion comes later, never from within. */
  start(entry: Entry, done: Completion): Operation;
  cancel(operation: Operation): void;
  cancelAll(): void;
  setHeld(operation: Operation, held: boolean): void;
  /** Ends everything at once. What is still in flight completes with -ECANCELED. */
  stop(): void;
  /** Called when nothing is in flight any more, or the workers are gone. */
  onIdle: (() => void) | undefined;
}

interface Queue {
  readonly index: number;
  readonly sq: Uint32Array;
  readonly sqMask: number;
  readonly cq: Uint32Array;
  readonly cqMask: number;
  /** Index of its first state word. */
  readonly state: number;
  /** Entries that found no room, oldest first. */
  readonly overflow: { readonly entry: Entry; readonly operation: Operation }[];
}

const retryMs = 1;
const noCompletion: Completion = () => undefined;

/** @throws Error with code, errno and syscall `fastio_setup`. */
export function openCore(options: NativeOptions, maxBlocks: number): Core {
  const { NativeRing: Ring } = loadNative();
  const operations: Operation[] = [];
  const free: Operation[] = [];
  let closed = false;
  let active = 0;
  let held = 0;
  let retry: NodeJS.Timeout | undefined;

  const native = new Ring(options, dispatch);
  const state = new Uint32Array(native.state);
  const givenBack = new Uint16Array(native.givenBack);
  const provided = viewsOf(native.provided, options.blockBytes);
  const queues: readonly Queue[] = native.queues.map(({ sq, cq }, index) => ({
    index,
    sq: new Uint32Array(sq),
    sqMask: sq.byteLength / (4 * sqeWords) - 1,
    cq: new Uint32Array(cq),
    cqMask: cq.byteLength / (4 * cqeWords) - 1,
    state: index * stateWords.count,
    overflow: [],
  }));
  const { map } = native;

  function take(queue: number, done: Completion, tag: number): Operation {
    let operation = free.pop();
    if (operation === undefined) {
      operation = { index: operations.length, high: 0, queue, done, held: false, active: false };
      operations.push(operation);
    }
    operation.high = ((((operation.high & ~makesDescriptor) + 1) & ~makesDescriptor) | tag) >>> 0;
    operation.queue = queue;
    operation.done = done;
    operation.active = true;
    operation.held = true;
    active += 1;
    hold(1);
    return operation;
  }

  function retire(operation: Operation): void {
    operation.active = false;
    active -= 1;
    if (operation.held) hold(-1);
    operation.held = false;
    // Or the buffers it knows would live until its next use.
    operation.done = noCompletion;
    free.push(operation);
  }

  function hold(change: number): void {
    const before = held;
    held += change;
    if (closed) return;
    if (before === 0 && held > 0) native.hold();
    if (before > 0 && held === 0) native.release();
  }

  function submit(operation: Operation, entry: Entry): void {
    const queue = at(queues, operation.queue);
    // Not past those that have waited longer.
    if (queue.overflow.length === 0 && write(queue, entry, operation)) return;
    queue.overflow.push({ entry, operation });
    retry ??= setTimeout(drainAll, retryMs);
  }

  /** Returns false when the SQ is full. */
  function write(queue: Queue, entry: Entry, { index, high }: Operation): boolean {
    const { sq, sqMask } = queue;
    const tail = word(state, queue.state + stateWords.sqTail);
    if (((tail - word(state, queue.state + stateWords.sqHead)) | 0) > sqMask) return false;
    const base = (tail & sqMask) * sqeWords;
    // Each queue has the buffer group of its number.
    const group = entry.flags & sqeFlags.bufSelect ? queue.index : 0;
    sq[base] = entry.opcode | (entry.flags << 8) | (group << 16);
    sq[base + 1] = entry.fd;
    sq[base + 2] = entry.addressLow;
    sq[base + 3] = entry.addressHigh;
    sq[base + 4] = entry.length;
    sq[base + 5] = entry.opFlags;
    sq[base + 6] = index;
    sq[base + 7] = high;
    sq[base + 8] = entry.offsetLow;
    sq[base + 9] = entry.offsetHigh;
    for (let rest = 10; rest < sqeWords; rest += 1) sq[base + rest] = 0;
    state[queue.state + stateWords.sqTail] = tail + 1;
    return true;
  }

  function drainAll(): void {
    retry = undefined;
    if (closed) return;
    native.flush();
    let left = false;
    for (const queue of queues) {
      drain(queue);
      left ||= queue.overflow.length > 0;
    }
    if (left) retry = setTimeout(drainAll, retryMs);
  }

  function drain(queue: Queue): void {
    const { overflow } = queue;
    let count = 0;
    for (const { entry, operation } of overflow) {
      if (!write(queue, entry, operation)) break;
      count += 1;
    }
    overflow.splice(0, count);
  }

  /** Called by the native half when completions are there: handles all that it was told of. */
  function dispatch(): void {
    if (word(state, stateWords.failed) !== 0) {
      stop();
      return;
    }
    for (const queue of queues) {
      if (queue.overflow.length > 0) drain(queue);
      reap(queue);
      // Somebody may have closed the ring meanwhile.
      if (closed) return;
    }
    if (active === 0) core.onIdle?.();
  }

  function reap(queue: Queue): void {
    const { cq, cqMask } = queue;
    const tail = word(state, queue.state + stateWords.cqTail);
    let head = word(state, queue.state + stateWords.cqHead);
    while (head !== tail) {
      const base = (head & cqMask) * cqeWords;
      const operation = at(operations, word(cq, base));
      const result = word(cq, base + 2) | 0;
      const flags = word(cq, base + 3);
      head = (head + 1) >>> 0;
      state[queue.state + stateWords.cqHead] = head;
      complete(queue, operation, result, flags);
      if (closed) return;
    }
  }

  function complete(queue: Queue, operation: Operation, result: number, flags: number): void {
    const more = (flags & cqeFlags.more) !== 0;
    const { done } = operation;
    const id = flags >>> cqeBufferShift;
    const hasBuffer = (flags & cqeFlags.buffer) !== 0;
    if (!more) retire(operation);
    try {
      done(result, more, hasBuffer ? provided[queue.index * options.provided + id] : undefined);
    } catch (error) {
      // As an exception in any other callback; the completions behind this one must not be lost.
      process.nextTick(() => {
        throw error;
      });
    }
    if (!hasBuffer || closed) return;
    const count = word(state, queue.state + stateWords.givenBack);
    givenBack[queue.index * options.provided + count] = id;
    state[queue.state + stateWords.givenBack] = count + 1;
  }

  function stop(): void {
    if (closed) return;
    closed = true;
    clearTimeout(retry);
    native.close();
    for (const operation of operations) {
      if (!operation.active) continue;
      const { done } = operation;
      retire(operation);
      process.nextTick(done, -errnos.ECANCELED, false, undefined);
    }
    process.nextTick(() => core.onIdle?.());
  }

  const core: Core = {
    native,
    blocks: makeBlocks(native, options.blockBytes, maxBlocks),
    owned: new Uint8Array(native.owned),
    isClosed: () => closed,
    active: () => active,
    onIdle: undefined,
    start(entry, done) {
      const tag = entry.opcode === opcodes.accept ? makesDescriptor : 0;
      const queue = map[entry.fd % map.length] ?? 0;
      const operation = take(queue, done, tag);
      if (closed) {
        retire(operation);
        process.nextTick(done, -errnos.ECANCELED, false, undefined);
      } else {
        submit(operation, entry);
      }
      return operation;
    },
    cancel(operation) {
      if (!operation.active || closed) return;
      const target = { addressLow: operation.index, addressHigh: operation.high };
      submit(take(operation.queue, noCompletion, 0), { ...emptyEntry, ...target, opcode: opcodes.cancel });
    },
    cancelAll() {
      for (const operation of [...operations]) core.cancel(operation);
    },
    setHeld(operation, value) {
      if (!operation.active || operation.held === value) return;
      operation.held = value;
      hold(value ? 1 : -1);
    },
    stop,
  };
  return core;
}

/** A word of memory that is known to be there. */
function word(words: Uint32Array, index: number): number {
  return words[index] ?? 0;
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`no item ${index}`);
  return item;
}
