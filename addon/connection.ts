import type { Duplex } from 'node:stream';
import { MSG_WAITALL, errnos, opcodes, sqeFlags } from './abi.js';
import type { Completion, Core, Operation } from './core.js';
import { systemError } from './errors.js';
import type { Endpoint } from './native.js';
import { receive, transfer } from './transfer.js';

/** What a connection needs besides what its stream keeps. */
export interface Connection {
  readonly core: Core;
  readonly fd: number;
  readonly copy: (data: Buffer, length: number) => Buffer;
  readonly onReceived: Completion;
  readonly onSent: Completion;
  receiving: Operation | undefined;
  wanted: boolean;
  pausing: boolean;
  gone: boolean;
  held: boolean;
  bytesRead: number;
  bytesWritten: number;
  timeout: number;
  timer: NodeJS.Timeout | undefined;
  remote: Endpoint | undefined;
  /** The write in flight: a stream has one at a time. */
  block: number;
  length: number;
  written: WriteCallback;
}

export type WriteCallback = (error?: Error | null) => void;
export function makeConnection(
  core: Core,
  fd: number,
  copy: (data: Buffer, length: number) => Buffer,
  stream: Duplex,
): Connection {
  const connection: Connection = {
    core,
    fd,
    copy,
    onReceived: (result, more, data) => {
      received(stream, connection, result, more, data);
    },
    onSent: (result) => {
      core.blocks.give(connection.block);
      sent(connection, result);
    },
    receiving: undefined,
    wanted: false,
    pausing: false,
    gone: false,
    held: true,
    bytesRead: 0,
    bytesWritten: 0,
    timeout: 0,
    timer: undefined,
    remote: undefined,
    block: -1,
    length: 0,
    written: () => undefined,
  };
  return connection;
}

/** Receives until cancelled; what arrives goes into the stream. */
export function startReceiving(connection: Connection): void {
  connection.receiving = receive(connection.core, connection.fd, 0, true, connection.onReceived);
  if (!connection.held) connection.core.setHeld(connection.receiving, false);
}

function received(
  stream: Duplex,
  connection: Connection,
  result: number,
  more: boolean,
  data: Buffer | undefined,
): void {
  if (!more) {
    connection.receiving = undefined;
    connection.pausing = false;
  }
  if (connection.gone) return;
  if (result > 0 && data !== undefined) {
    connection.bytesRead += result;
    connection.timer?.refresh();
    connection.wanted = stream.push(connection.copy(data, result));
    if (!connection.wanted && more && !connection.pausing && connection.receiving !== undefined) {
      connection.pausing = true;
      connection.core.cancel(connection.receiving);
    }
  } else if (result === 0) {
    connection.wanted = false;
    stream.push(null);
  } else if (result !== -errnos.ENOBUFS && result !== -errnos.ECANCELED) {
    connection.wanted = false;
    stream.destroy(systemError('read', result));
  }
  // The stream may have been destroyed by what it was given.
  if (!more && connection.wanted && !isGone(connection)) startReceiving(connection);
}

function isGone({ gone }: Connection): boolean {
  return gone;
}

/** Sends all of a write; the stream waits with the next until it has been told. */
export function send(connection: Connection, bytes: Uint8Array, written: WriteCallback): void {
  const { core, fd } = connection;
  connection.timer?.refresh();
  connection.written = written;
  connection.length = bytes.byteLength;
  const block = bytes.byteLength <= core.blocks.blockBytes ? core.blocks.take() : -1;
  if (block < 0) {
    const unstopped = { operation: undefined, stopped: false };
    transfer(core, { opcode: opcodes.send, fd, position: null }, bytes, unstopped, (result) => {
      sent(connection, result);
    });
    return;
  }
  core.blocks.bytes(block).set(bytes);
  connection.block = block;
  core.start(
    {
      opcode: opcodes.send,
      flags: sqeFlags.slot,
      fd,
      addressLow: core.blocks.addressLow(block),
      addressHigh: core.blocks.addressHigh(block),
      length: bytes.byteLength,
      opFlags: MSG_WAITALL,
      offsetLow: 0,
      offsetHigh: 0,
    },
    connection.onSent,
  );
}

function sent(connection: Connection, result: number): void {
  const { written } = connection;
  if (result < 0) {
    written(systemError('write', result));
    return;
  }
  connection.bytesWritten += connection.length;
  connection.timer?.refresh();
  written();
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
