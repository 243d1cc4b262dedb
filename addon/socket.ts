import type { DuplexOptions } from 'node:stream';
import { Duplex } from 'node:stream';
import { closeDescriptor } from './accept.js';
import { errnos } from './abi.js';
import type { Connection } from './connection.js';
import { makeConnection, send, startReceiving } from './connection.js';
import type { Core } from './core.js';
import { systemError } from './errors.js';
import type { Endpoint } from './native.js';
import { loadNative } from './native.js';

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

const state = Symbol('connection');
type Internal = Socket & { readonly [state]: Connection };

/** A stream over a connection that the ring owns. */
export function makeSocket(
  core: Core,
  fd: number,
  { allowHalfOpen, highWaterMark }: SocketOptions,
  copy: (data: Buffer, length: number) => Buffer,
): Socket {
  const options: DuplexOptions = {
    allowHalfOpen,
    ...(highWaterMark === undefined ? {} : { highWaterMark }),
  };
  const socket = Reflect.construct(Duplex, [options], makeSocket) as Internal;
  Object.defineProperty(socket, state, { value: makeConnection(core, fd, copy, socket) });
  return socket;
}

function endpoint({ gone, core, fd }: Connection, peer: boolean): Endpoint | undefined {
  const found = gone || core.isClosed() ? 0 : loadNative().endpoint(fd, peer);
  return typeof found === 'number' ? undefined : found;
}

function remote(connection: Connection): Endpoint | undefined {
  return (connection.remote ??= endpoint(connection, true));
}

function hold(socket: Internal, value: boolean): Socket {
  const connection = socket[state];
  connection.held = value;
  if (connection.receiving !== undefined) connection.core.setHeld(connection.receiving, value);
  return socket;
}

function setOption(socket: Internal, set: (fd: number) => number): Socket {
  const { gone, core, fd } = socket[state];
  if (!gone && !core.isClosed()) set(fd);
  return socket;
}

/** What streams ask of a connection. */
const streamMethods: ThisType<Internal> &
  Pick<Duplex, '_read' | '_write' | '_final' | '_destroy'> &
  Required<Pick<Duplex, '_writev'>> = {
  _read() {
    const connection = this[state];
    connection.wanted = true;
    if (connection.receiving === undefined && !connection.gone) startReceiving(connection);
  },
  _write(chunk: Uint8Array, _encoding, callback) {
    send(this[state], chunk, callback);
  },
  _writev(chunks, callback) {
    send(this[state], Buffer.concat(chunks.map(({ chunk }) => chunk as Uint8Array)), callback);
  },
  _final(callback) {
    const { core, fd } = this[state];
    const result = core.isClosed() ? 0 : loadNative().shutdown(fd);
    callback(result < 0 && result !== -errnos.ENOTCONN ? systemError('shutdown', result) : null);
  },
  _destroy(error, callback) {
    const connection = this[state];
    const { core, fd } = connection;
    connection.gone = true;
    clearTimeout(connection.timer);
    connection.timer = undefined;
    if (core.isClosed() || core.owned[fd] !== 1) {
      callback(error);
      return;
    }
    closeDescriptor(core, fd, () => {
      callback(error);
    });
  },
};

const socketProperties: ThisType<Internal> & SocketProperties = {
  get fd() {
    return this[state].fd;
  },
  connecting: false,
  get bytesRead() {
    return this[state].bytesRead;
  },
  get bytesWritten() {
    return this[state].bytesWritten;
  },
  get remoteAddress() {
    return remote(this[state])?.address;
  },
  get remoteFamily() {
    return remote(this[state])?.family;
  },
  get remotePort() {
    return remote(this[state])?.port;
  },
  get localAddress() {
    return endpoint(this[state], false)?.address;
  },
  get localPort() {
    return endpoint(this[state], false)?.port;
  },
  get timeout() {
    return this[state].timeout;
  },
  address() {
    return endpoint(this[state], false) ?? {};
  },
  setTimeout(ms, callback) {
    const connection = this[state];
    connection.timeout = ms;
    clearTimeout(connection.timer);
    connection.timer = undefined;
    if (ms > 0 && !connection.gone) {
      connection.timer = setTimeout(() => this.emit('timeout'), ms).unref();
    }
    if (callback !== undefined) {
      if (ms > 0) this.once('timeout', callback);
      else this.removeListener('timeout', callback);
    }
    return this;
  },
  setNoDelay(on = true) {
    return setOption(this, (fd) => loadNative().setNoDelay(fd, on));
  },
  setKeepAlive(on = false, initialDelayMs = 0) {
    return setOption(this, (fd) => loadNative().setKeepAlive(fd, on, Math.floor(initialDelayMs / 1000)));
  },
  ref() {
    return hold(this, true);
  },
  unref() {
    return hold(this, false);
  },
  destroySoon() {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  },
};

/*
 * All connections share one prototype. Properties of their own, closures among them, would give each a shape of its own, and
 * every access in the streams' code would become a search.
 */
makeSocket.prototype = Object.create(Duplex.prototype, {
  ...Object.getOwnPropertyDescriptors(streamMethods),
  ...Object.getOwnPropertyDescriptors(socketProperties),
}) as object;
