import { lookup } from 'node:dns/promises';
import { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import type { Accepting } from './accept.js';
import { acceptAll, closeDescriptor } from './accept.js';
import { errnos, maxOwned } from './abi.js';
import { checkBoolean, checkFunction, checkInteger, checkOptions, checkString } from './check.js';
import { makeCopier } from './connection.js';
import type { Core } from './core.js';
import { closedError, codedError, systemError } from './errors.js';
import type { Endpoint } from './native.js';
import { loadNative } from './native.js';
import type { RingOptions } from './options.js';
import { checkRingOptions } from './options.js';
import type { Ring } from './ring.js';
import { coreOf, openRing } from './ring.js';
import type { Socket } from './socket.js';
import { makeSocket } from './socket.js';

export interface ServerOptions {
  /** The ring to use, which is then yours to close; else a RingOptions for one of the server's own. */
  readonly ring?: Ring | RingOptions;
  /** Keep the writable side open when the peer has ended its own. Default: false. */
  readonly allowHalfOpen?: boolean;
  /** Do not read until the 'connection' listener asks. Default: false. */
  readonly pauseOnConnect?: boolean;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  /** ms; only whole seconds count. */
  readonly keepAliveInitialDelay?: number;
  /** Bytes, for both directions of each connection; see stream.Duplex. */
  readonly highWaterMark?: number;
}

export interface ListenOptions {
  /** 0, the default, lets the system choose; see address(). */
  readonly port?: number;
  /** A name or an address. Default: all of them, `::` where there is IPv6. */
  readonly host?: string;
  /** Default: 511. */
  readonly backlog?: number;
  readonly reusePort?: boolean;
  readonly ipv6Only?: boolean;
}

/** As net.Server: emits listening, connection, drop, error and close. */
export interface Server extends EventEmitter, AsyncDisposable {
  readonly listening: boolean;
  readonly ring: Ring;
  maxConnections: number | undefined;
  listen(port: number, host?: string, callback?: () => void): Server;
  listen(options: ListenOptions, callback?: () => void): Server;
  address(): Endpoint | null;
  getConnections(callback: (error: Error | null, count: number) => void): Server;
  /** Accepts no more; 'close' comes when the last connection has ended. */
  close(callback?: (error?: Error) => void): Server;
  ref(): Server;
  unref(): Server;
}

/**
 * A listening socket as a descriptor, for Ring.accept(). It is yours: end it with Ring.closeDescriptor().
 * @param options `host` must be an address here, not a name.
 * @throws TypeError, RangeError, or Error with code, errno and syscall `listen`.
 */
export function openListener(options?: ListenOptions): number {
  const {
    port = 0,
    host = '::',
    backlog = 511,
    reusePort = false,
    ipv6Only = false,
  } = checkListenOptions(options);
  const result = loadNative().listen(host, port, backlog, reusePort, ipv6Only);
  if (result < 0) throw systemError('listen', result, { address: host, port });
  return result;
}

/** The system has no descriptor or memory left: connections wait in the backlog this long. */
const retryMs = 100;
const scarce: ReadonlySet<number> = new Set([errnos.EMFILE, errnos.ENFILE, errnos.ENOBUFS, errnos.ENOMEM]);
const booleans = ['allowHalfOpen', 'pauseOnConnect', 'noDelay', 'keepAlive'] as const;

/** @throws TypeError, RangeError for bad options; what openRing() throws when it has to open one. */
export function createServer(listener: (socket: Socket) => void): Server;
export function createServer(options?: ServerOptions, listener?: (socket: Socket) => void): Server;
export function createServer(first?: unknown, second?: unknown): Server {
  const listener = typeof first === 'function' ? first : second;
  const given = checkOptions(typeof first === 'function' ? undefined : first, [
    'ring',
    ...booleans,
    'keepAliveInitialDelay',
    'highWaterMark',
  ]) as ServerOptions;
  for (const name of booleans) {
    if (given[name] !== undefined) checkBoolean(name, given[name]);
  }
  if (given.keepAliveInitialDelay !== undefined) {
    checkInteger('keepAliveInitialDelay', given.keepAliveInitialDelay, 0, 2 ** 31 - 1);
  }
  if (given.highWaterMark !== undefined) checkInteger('highWaterMark', given.highWaterMark, 0, 2 ** 30);
  if (listener !== undefined) checkFunction('listener', listener);
  const isRing = given.ring !== undefined && 'recv' in given.ring;
  if (!isRing) checkRingOptions(given.ring);
  const ring = isRing ? given.ring : openRing(given.ring);
  const server = makeServer(ring, !isRing, given);
  if (listener !== undefined) server.on('connection', listener as (socket: Socket) => void);
  return server;
}

function makeServer(ring: Ring, ownsRing: boolean, options: ServerOptions): Server {
  const core: Core = coreOf(ring);
  const copy = makeCopier();
  const connections = new Set<Socket>();
  const native = loadNative();
  let fd = -1;
  let starting = false;
  let held = true;
  let accepting: Accepting | undefined;
  let retry: NodeJS.Timeout | undefined;
  let closing = false;

  const accept = (): void => {
    retry = undefined;
    accepting = acceptAll(core, fd, onConnection, onAcceptEnd);
    accepting.hold(held);
  };
  const setHeld = (value: boolean): Server => {
    held = value;
    accepting?.hold(value);
    if (value) retry?.ref();
    else retry?.unref();
    return server;
  };
  const onConnection = (connection: number): void => {
    if (closing || (server.maxConnections !== undefined && connections.size >= server.maxConnections)) {
      const remote = native.endpoint(connection, true);
      closeDescriptor(core, connection, () => undefined);
      if (!closing) server.emit('drop', typeof remote === 'number' ? undefined : remote);
      return;
    }
    const { allowHalfOpen = false, highWaterMark } = options;
    const socketOptions = { allowHalfOpen, ...(highWaterMark === undefined ? {} : { highWaterMark }) };
    const socket = makeSocket(core, connection, socketOptions, copy);
    if (options.noDelay === true) socket.setNoDelay(true);
    if (options.keepAlive === true) socket.setKeepAlive(true, options.keepAliveInitialDelay);
    connections.add(socket);
    socket.once('close', () => {
      connections.delete(socket);
      finishClosing();
    });
    if (options.pauseOnConnect !== true) socket.read(0);
    server.emit('connection', socket);
  };
  const onAcceptEnd = (result: number): void => {
    accepting = undefined;
    if (closing || result === 0) {
      closeListener();
    } else if (scarce.has(-result)) {
      retry = setTimeout(accept, retryMs);
      if (!held) retry.unref();
    } else {
      closeListener();
      server.emit('error', systemError('accept', result));
    }
  };
  /** Unless the ring has closed it with everything else of its own. */
  const dropListener = (): void => {
    if (fd >= 0 && !core.isClosed() && core.owned[fd] === 1) {
      core.owned[fd] = 0;
      native.closeNow(fd);
    }
    fd = -1;
  };
  const closeListener = (): void => {
    dropListener();
    finishClosing();
  };
  const finishClosing = (): void => {
    if (!closing || fd >= 0 || connections.size > 0) return;
    closing = false;
    const done = (): void => void server.emit('close');
    if (ownsRing) void ring.close().then(done);
    else process.nextTick(done);
  };
  const start = async ({
    port = 0,
    host,
    backlog = 511,
    reusePort = false,
    ipv6Only = false,
  }: ListenOptions) => {
    try {
      const address = host === undefined || isIP(host) !== 0 ? host : (await lookup(host)).address;
      // Asked to close while the name was looked up.
      if (!starting) return;
      const listen = (at: string): number => native.listen(at, port, backlog, reusePort, ipv6Only);
      let result = listen(address ?? '::');
      if (address === undefined && result === -EAFNOSUPPORT) result = listen('0.0.0.0');
      if (result < 0) throw systemError('listen', result, { address: address ?? '::', port });
      if (ring.closed || result >= maxOwned) {
        native.closeNow(result);
        throw ring.closed ? closedError() : systemError('listen', -errnos.EMFILE);
      }
      fd = result;
      // The end of the thread closes it, too.
      core.owned[fd] = 1;
      accept();
      process.nextTick(() => server.emit('listening'));
    } catch (error) {
      dropListener();
      process.nextTick(() => server.emit('error', error));
    } finally {
      starting = false;
    }
  };

  const methods = {
    ring,
    maxConnections: undefined as number | undefined,
    get listening() {
      return fd >= 0 && !closing;
    },
    listen(first?: unknown, ...rest: unknown[]) {
      const last = rest.at(-1);
      const callback = typeof last === 'function' ? (last as () => void) : undefined;
      const listenOptions =
        typeof first === 'number'
          ? { port: first, ...(typeof rest[0] === 'string' ? { host: rest[0] } : {}) }
          : first;
      const checked = checkListenOptions(listenOptions);
      if (starting || fd >= 0) throw codedError('ERR_SERVER_ALREADY_LISTEN', 'listen() was called before');
      if (callback !== undefined) server.once('listening', callback);
      starting = true;
      void start(checked);
      return server;
    },
    address() {
      const found = fd < 0 || closing || core.isClosed() ? 0 : native.endpoint(fd, false);
      return typeof found === 'number' ? null : found;
    },
    getConnections(callback: (error: Error | null, count: number) => void) {
      process.nextTick(callback, null, connections.size);
      return server;
    },
    close(callback?: (error?: Error) => void) {
      if (fd < 0 && !starting) {
        const error = codedError('ERR_SERVER_NOT_RUNNING', 'Server is not running.');
        if (callback !== undefined) process.nextTick(callback, error);
        if (ownsRing && connections.size === 0) void ring.close();
        return server;
      }
      if (callback !== undefined)
        server.once('close', () => {
          callback();
        });
      closing = true;
      starting = false;
      clearTimeout(retry);
      if (accepting === undefined) closeListener();
      else {
        accepting.stop();
        // Not only when that is done: who connects meanwhile would be accepted, and then reset.
        if (!core.isClosed()) native.stopListening(fd);
      }
      return server;
    },
    ref: () => setHeld(true),
    unref: () => setHeld(false),
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
        for (const socket of connections) socket.destroy();
      });
      if (ownsRing) await ring.close();
    },
  };
  const server = Object.defineProperties(
    new EventEmitter(),
    Object.getOwnPropertyDescriptors(methods),
  ) as Server;
  return server;
}

const EAFNOSUPPORT = 97;

function checkListenOptions(value: unknown): ListenOptions {
  const options = checkOptions(value, ['port', 'host', 'backlog', 'reusePort', 'ipv6Only']);
  if (options.port !== undefined) checkInteger('port', options.port, 0, 65_535);
  if (options.host !== undefined) checkString('host', options.host);
  if (options.backlog !== undefined) checkInteger('backlog', options.backlog, 1, 65_535);
  for (const name of ['reusePort', 'ipv6Only'] as const) {
    if (options[name] !== undefined) checkBoolean(name, options[name]);
  }
  return options as ListenOptions;
}
