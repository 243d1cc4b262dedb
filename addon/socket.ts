import type { DuplexOptions } from 'node:stream';
import { Duplex } from 'node:stream';
import { closeDescriptor } from './accept.js';
import { MSG_WAITALL, errnos, opcodes, sqeFlags } from './abi.js';
import type { Core, Operation } from './core.js';
import { systemError } from './errors.js';
import type { Endpoint } from './native.js';
import { loadNative } from './native.js';
import { receive, transfer } from './transfer.js';

/** What a connection has besides being a stream, as net.Socket has it. */
export interface SocketProperties {
  readonly fd: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly remoteAddress: string | undefined;
  readonly remoteFamily: string | undefined;
  readonly remotePort: number | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  readonly connecting: false;
  readonly timeout: number;
  address(): Endpoint | Record<string, never>;
  /** 'timeout' is emitted after so many ms without traffic; 0 is never. */
  setTimeout(ms: number, callback?: () => void): Socket;
  setNoDelay(on?: boolean): Socket;
  setKeepAlive(on?: boolean, initialDelayMs?: number): Socket;
  ref(): Socket;
  unref(): Socket;
  destroySoon(): void;
}

/** A connection of createServer(). */
export type Socket = Duplex & SocketProperties;

export interface SocketOptions {
  readonly allowHalfOpen: boolean;
  readonly highWaterMark?: number;
}

/** What arrives is copied into chunks of this size, which several messages share. */
const chunkBytes = 65_536;

/** Copies of what provided buffers hold, cut from larger chunks: cheaper than an allocation each. */
export function makeCopier(): (data: Buffer, length: number) => Buffer {
  let chunk = Buffer.allocUnsafeSlow(chunkBytes);
  let used = 0;
  return (data, length) => {
    if (length > chunkBytes / 4) return Buffer.from(data.subarray(0, length));
    if (used + length > chunkBytes) {
      chunk = Buffer.allocUnsafeSlow(chunkBytes);
      used = 0;
    }
    const copy = chunk.subarray(used, used + length);
    data.copy(copy, 0, 0, length);
    // Aligned, as Node's own pool is.
    used += (length + 7) & ~7;
    return copy;
  };
}

/** A stream over a connection that the ring owns. */
export function makeSocket(
  core: Core,
  fd: number,
  { allowHalfOpen, highWaterMark }: SocketOptions,
  copy: (data: Buffer, length: number) => Buffer,
): Socket {
  let receiving: Operation | undefined;
  let wanted = false;
  let pausing = false;
  let gone = false;
  let held = true;
  let bytesRead = 0;
  let bytesWritten = 0;
  let timeout = 0;
  let timer: NodeJS.Timeout | undefined;

  const startReceiving = (): void => {
    receiving = receive(core, fd, 0, true, onReceived);
    if (!held) core.setHeld(receiving, false);
  };
  const onReceived = (result: number, more: boolean, data: Buffer | undefined): void => {
    if (!more) {
      receiving = undefined;
      pausing = false;
    }
    if (gone) return;
    if (result > 0 && data !== undefined) {
      bytesRead += result;
      timer?.refresh();
      wanted = stream.push(copy(data, result));
      if (!wanted && more && !pausing && receiving !== undefined) {
        pausing = true;
        core.cancel(receiving);
      }
    } else if (result === 0) {
      wanted = false;
      stream.push(null);
    } else if (result !== -errnos.ENOBUFS && result !== -errnos.ECANCELED) {
      wanted = false;
      stream.destroy(systemError('read', result));
    }
    // The stream may have been destroyed by what it was given.
    if (!more && wanted && !isGone()) startReceiving();
  };
  const isGone = (): boolean => gone;

  const send = (bytes: Uint8Array, callback: (error?: Error | null) => void): void => {
    timer?.refresh();
    const finish = (result: number): void => {
      if (result < 0) {
        callback(systemError('write', result));
        return;
      }
      bytesWritten += bytes.byteLength;
      timer?.refresh();
      callback();
    };
    const block = bytes.byteLength <= core.blocks.blockBytes ? core.blocks.take() : -1;
    if (block < 0) {
      const unstopped = { operation: undefined, stopped: false };
      transfer(core, { opcode: opcodes.send, fd, position: null }, bytes, unstopped, finish);
      return;
    }
    core.blocks.bytes(block).set(bytes);
    sendBlock(core, fd, block, bytes.byteLength, finish);
  };

  const options: DuplexOptions = {
    allowHalfOpen,
    ...(highWaterMark === undefined ? {} : { highWaterMark }),
    read() {
      wanted = true;
      if (receiving === undefined && !gone) startReceiving();
    },
    write(chunk: Uint8Array, _encoding, callback) {
      send(chunk, callback);
    },
    writev(chunks, callback) {
      send(Buffer.concat(chunks.map(({ chunk }) => chunk as Uint8Array)), callback);
    },
    final(callback) {
      const result = core.isClosed() ? 0 : loadNative().shutdown(fd);
      callback(result < 0 && result !== -errnos.ENOTCONN ? systemError('shutdown', result) : null);
    },
    destroy(error, callback) {
      gone = true;
      clearTimeout(timer);
      timer = undefined;
      if (core.isClosed() || core.owned[fd] !== 1) {
        callback(error);
        return;
      }
      closeDescriptor(core, fd, () => {
        callback(error);
      });
    },
  };
  const stream = new Duplex(options);

  const endpoint = (peer: boolean): Endpoint | undefined => {
    const found = gone || core.isClosed() ? 0 : loadNative().endpoint(fd, peer);
    return typeof found === 'number' ? undefined : found;
  };
  let remote: Endpoint | undefined;
  const peer = (): Endpoint | undefined => (remote ??= endpoint(true));
  const setHeld = (value: boolean): Socket => {
    held = value;
    if (receiving !== undefined) core.setHeld(receiving, value);
    if (value) timer?.ref();
    return socket;
  };
  const setOption = (set: () => number): Socket => {
    if (!gone && !core.isClosed()) set();
    return socket;
  };
  const properties: SocketProperties = {
    fd,
    connecting: false,
    get bytesRead() {
      return bytesRead;
    },
    get bytesWritten() {
      return bytesWritten;
    },
    get remoteAddress() {
      return peer()?.address;
    },
    get remoteFamily() {
      return peer()?.family;
    },
    get remotePort() {
      return peer()?.port;
    },
    get localAddress() {
      return endpoint(false)?.address;
    },
    get localPort() {
      return endpoint(false)?.port;
    },
    get timeout() {
      return timeout;
    },
    address: () => endpoint(false) ?? {},
    setTimeout(ms, callback) {
      timeout = ms;
      clearTimeout(timer);
      timer = undefined;
      if (ms > 0 && !gone) timer = setTimeout(() => socket.emit('timeout'), ms).unref();
      if (callback !== undefined) {
        if (ms > 0) socket.once('timeout', callback);
        else socket.removeListener('timeout', callback);
      }
      return socket;
    },
    setNoDelay: (on = true) => setOption(() => loadNative().setNoDelay(fd, on)),
    setKeepAlive: (on = false, initialDelayMs = 0) =>
      setOption(() => loadNative().setKeepAlive(fd, on, Math.floor(initialDelayMs / 1000))),
    ref: () => setHeld(true),
    unref: () => setHeld(false),
    destroySoon() {
      if (socket.writable) socket.end();
      if (socket.writableFinished) socket.destroy();
      else socket.once('finish', () => socket.destroy());
    },
  };
  const socket = Object.defineProperties(stream, Object.getOwnPropertyDescriptors(properties)) as Socket;
  return socket;
}

function sendBlock(
  core: Core,
  fd: number,
  block: number,
  length: number,
  finish: (result: number) => void,
): void {
  core.start(
    {
      opcode: opcodes.send,
      flags: sqeFlags.slot,
      fd,
      addressLow: core.blocks.addressLow(block),
      addressHigh: core.blocks.addressHigh(block),
      length,
      opFlags: MSG_WAITALL,
      offsetLow: 0,
      offsetHigh: 0,
    },
    (result) => {
      core.blocks.give(block);
      finish(result);
    },
  );
}
