import type { Core, Operation } from './core.js';
import { emptyEntry } from './entry.js';
import { SOCK_CLOEXEC, errnos, maxOwned, opcodes, sqeFlags } from './abi.js';
import { abortError, closedError, systemError } from './errors.js';
import { loadNative } from './native.js';

export interface Accepting {
  /** Ends it; connections accepted until then still come. */
  stop(): void;
  /** Whether it keeps the process alive from now on, as it does at first. */
  hold(value: boolean): void;
}

/** What a listener may say of one connection, after which the next is fine. */
const transient: ReadonlySet<number> = new Set([errnos.ECONNABORTED, errnos.EPROTO, errnos.EINTR]);

/**
 * Accepts until stopped or until it fails.
 * @param onEnd Called once, with 0 when it was stopped, else -errno.
 */
export function acceptAll(
  core: Core,
  fd: number,
  onConnection: (fd: number) => void,
  onEnd: (result: number) => void,
): Accepting {
  let operation: Operation | undefined;
  let stopped = false;
  let held = true;
  const arm = (): void => {
    operation = core.start(
      { ...emptyEntry, opcode: opcodes.accept, flags: sqeFlags.multishot, fd, opFlags: SOCK_CLOEXEC },
      (result, more) => {
        if (!more) operation = undefined;
        if (result >= 0) own(core, result, onConnection);
        if (more) return;
        if (stopped || (result === -errnos.ECANCELED && core.isClosed())) onEnd(0);
        else if (result >= 0 || transient.has(-result)) arm();
        else onEnd(result);
      },
    );
    core.setHeld(operation, held);
  };
  arm();
  return {
    stop() {
      stopped = true;
      if (operation !== undefined) core.cancel(operation);
    },
    hold(value) {
      held = value;
      if (operation !== undefined) core.setHeld(operation, value);
    },
  };
}

function own(core: Core, fd: number, onConnection: (fd: number) => void): void {
  if (fd >= maxOwned || core.isClosed()) {
    loadNative().closeNow(fd);
    return;
  }
  core.owned[fd] = 1;
  onConnection(fd);
}

/** Closes a descriptor of the ring's on its queue; what waits for it ends with -ECANCELED. */
export function closeDescriptor(core: Core, fd: number, done: (result: number) => void): void {
  // From here on the number may come to mean another file at any moment.
  core.owned[fd] = 0;
  core.start({ ...emptyEntry, opcode: opcodes.close, fd }, done);
}

/** Connections nobody asked for yet; more are left in the kernel's backlog. */
const maxUnread = 256;

/** The connections of a listening socket, as descriptors that the ring owns. */
export function acceptIterator(
  core: Core,
  fd: number,
  signal: AbortSignal | undefined,
): AsyncIterableIterator<number> {
  const unread: number[] = [];
  const waiting: { resolve: (result: IteratorResult<number>) => void; reject: (error: Error) => void }[] = [];
  let accepting: Accepting | undefined;
  let failure: Error | undefined;
  let ended = false;

  const start = (): void => {
    if (accepting !== undefined || ended) return;
    accepting = acceptAll(
      core,
      fd,
      (connection) => {
        if (ended) {
          closeDescriptor(core, connection, () => undefined);
          return;
        }
        const reader = waiting.shift();
        if (reader !== undefined) {
          reader.resolve({ done: false, value: connection });
          return;
        }
        unread.push(connection);
        if (unread.length >= maxUnread) accepting?.stop();
      },
      (result) => {
        accepting = undefined;
        if (core.isClosed()) finish(closedError());
        else if (result < 0) finish(systemError('accept', result));
        else if (waiting.length > 0) start();
      },
    );
  };
  const finish = (error?: Error): void => {
    if (ended) return;
    ended = true;
    failure = error;
    signal?.removeEventListener('abort', onAbort);
    accepting?.stop();
    const [first, ...others] = waiting.splice(0);
    if (error !== undefined && first !== undefined) {
      failure = undefined;
      first.reject(error);
    } else first?.resolve({ done: true, value: undefined });
    for (const reader of others) reader.resolve({ done: true, value: undefined });
  };
  const onAbort = (): void => {
    if (signal !== undefined) finish(abortError(signal));
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  start();

  return {
    next() {
      const connection = unread.shift();
      if (connection !== undefined) return Promise.resolve({ done: false, value: connection });
      if (failure !== undefined) {
        const error = failure;
        failure = undefined;
        return Promise.reject(error);
      }
      if (ended) return Promise.resolve({ done: true, value: undefined });
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        start();
      });
    },
    return() {
      finish();
      for (const connection of unread.splice(0)) closeDescriptor(core, connection, () => undefined);
      return Promise.resolve({ done: true, value: undefined });
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
