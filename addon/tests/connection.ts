import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type net from 'node:net';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { TestContext } from 'node:test';
import { describe, it } from 'node:test';
import type { Server, ServerOptions, Socket } from '../index.js';
import { connectFor, noise, readBytes, serverFor, sleepy, stuck, tested } from './rig.js';

/** The connection at the server's side, and its peer. */
async function connected(
  test: TestContext,
  options: ServerOptions = {},
): Promise<{ readonly server: Server; readonly socket: Socket; readonly peer: net.Socket }> {
  const { server, port } = await serverFor(test, () => undefined, options);
  const connection = once(server, 'connection') as Promise<[Socket]>;
  const peer = await connectFor(test, port, { allowHalfOpen: true });
  const [socket] = await connection;
  socket.on('error', () => undefined);
  return { server, socket, peer };
}

describe('a connection', () => {
  it('ends when its peer ends, unless half-open is allowed', async (test) => {
    const { socket, peer } = await connected(test);
    socket.resume();
    peer.end();
    peer.resume();
    await Promise.all([once(socket, 'close'), once(peer, 'close')]);

    const half = await connected(test, { allowHalfOpen: true });
    half.socket.resume();
    half.peer.end();
    await once(half.socket, 'end');
    half.socket.end('still here');
    assert.equal((await readBytes(half.peer, 10)).toString(), 'still here');
  });

  it('stops reading when nobody takes what comes, and goes on later', async (test) => {
    const blockBytes = 262_144;
    const { socket, peer } = await connected(test, {
      highWaterMark: blockBytes,
      ring: { ...sleepy, blockBytes, receiveBuffers: 8 },
    });
    const message = noise(stuck.bytes);
    let flushed = false;
    peer.write(message, () => {
      flushed = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 200));

    assert.ok(socket.readableLength < 4_000_000, `${socket.readableLength} bytes were read with no reader`);
    assert.equal(flushed, false);
    assert.ok((await readBytes(socket, message.length)).equals(message));
    assert.equal(socket.bytesRead, message.length);
  });

  it('pushes back when its peer does not read, and drains', async (test) => {
    const { socket, peer } = await connected(test, {
      highWaterMark: 1000,
      ring: { ...sleepy, blockBytes: stuck.blockBytes },
    });
    peer.pause();
    const message = noise(stuck.bytes);

    assert.equal(socket.write(message), false);
    const drained = once(socket, 'drain');
    assert.ok((await readBytes(peer, message.length)).equals(message));
    await drained;

    assert.equal(socket.bytesWritten, message.length);
  });

  it('writes corked chunks and strings in order', async (test) => {
    const { socket, peer } = await connected(test);
    socket.cork();
    for (let i = 0; i < 100; i += 1) socket.write(`${i},`);
    socket.uncork();
    socket.end('é', 'utf8');
    const expected = `${Array.from({ length: 100 }, (_, i) => `${i},`).join('')}é`;

    assert.equal((await readBytes(peer, Buffer.byteLength(expected))).toString(), expected);
  });

  it('works in a pipeline', async (test) => {
    const { socket, peer } = await connected(test);
    const upper = new Transform({
      transform(chunk: Buffer, _encoding, callback) {
        callback(null, chunk.toString().toUpperCase());
      },
    });
    const done = pipeline(socket, upper, socket);
    peer.end('hello');

    assert.equal((await readBytes(peer, 5)).toString(), 'HELLO');
    await done;
  });

  it('emits error and close when its peer resets it', async (test) => {
    const { socket, peer } = await connected(test);
    socket.resume();
    const failed = once(socket, 'error') as Promise<[NodeJS.ErrnoException]>;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    peer.resetAndDestroy();

    const [error] = await failed;
    await closed;
    assert.deepEqual({ code: error.code, syscall: error.syscall }, { code: 'ECONNRESET', syscall: 'read' });
    assert.equal(socket.destroyed, true);
  });

  it('fails a write after its end with ERR_STREAM_WRITE_AFTER_END', async (test) => {
    const { socket } = await connected(test);
    socket.end();
    const error = await new Promise((resolve) => socket.write('x', resolve));
    assert.equal((error as NodeJS.ErrnoException).code, 'ERR_STREAM_WRITE_AFTER_END');
  });

  it('can be destroyed with a write in flight, with an error or without', async (test) => {
    for (const reason of [undefined, new Error('mine')]) {
      const { socket, peer } = await connected(test);
      peer.pause();
      const written = new Promise((resolve) => socket.write(Buffer.alloc(stuck.bytes), resolve));
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.destroy(reason);
      await closed;
      // Net says nothing.
      if (tested === 'fastio') assert.ok((await written) instanceof Error);
      assert.equal(socket.remoteAddress === undefined || socket.remoteAddress === '127.0.0.1', true);
      peer.destroy();
    }
  });

  it('emits timeout when it is idle, and only then', async (test) => {
    const { socket, peer } = await connected(test);
    socket.resume();
    const begun = performance.now();
    // Far more than a busy machine makes this process wait.
    const timeout = 1000;
    socket.setTimeout(timeout);
    const ticking = setInterval(() => peer.write('x'), 20);
    setTimeout(() => {
      clearInterval(ticking);
    }, timeout);

    await once(socket, 'timeout');

    assert.ok(performance.now() - begun >= 1.9 * timeout);
    assert.equal(socket.timeout, timeout);
    assert.equal(socket.destroyed, false);
  });

  it('waits to be resumed with pauseOnConnect', async (test) => {
    const { socket, peer } = await connected(test, { pauseOnConnect: true });
    peer.write('early');
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(socket.bytesRead, 0);
    assert.equal((await readBytes(socket, 5)).toString(), 'early');
  });

  it('sends keep-alives after keepAliveInitialDelay', async (test) => {
    const { socket } = await connected(test, { keepAlive: true, keepAliveInitialDelay: 3_000 });
    const seconds = keepAliveSeconds(socket);
    assert.ok(seconds !== undefined && seconds > 0 && seconds <= 3, `${seconds} s`);
    socket.setKeepAlive(false);
    assert.equal(keepAliveSeconds(socket), undefined);
    socket.setKeepAlive(true, 5_000);
    const changed = keepAliveSeconds(socket);
    assert.ok(changed !== undefined && changed > 3 && changed <= 5, `${changed} s`);
  });

  it('sends small writes at once with noDelay, and only then', async (test) => {
    for (const noDelay of [false, true]) {
      const { socket, peer } = await connected(test, { noDelay });
      const held = await pairsHeldBack(socket, peer);
      const few = wanted / 2;
      assert.ok(noDelay ? held < few : held > few, `${held} of ${wanted} held back, noDelay ${noDelay}`);
      if (noDelay) continue;
      socket.setNoDelay();
      assert.ok((await pairsHeldBack(socket, peer)) < few, 'setNoDelay()');
    }
  });

  it('is read with for await, as strings where that was asked', async (test) => {
    const { socket, peer } = await connected(test);
    socket.setEncoding('utf8');
    const message = Buffer.from('né');
    peer.write(message.subarray(0, 2));
    setTimeout(() => peer.end(message.subarray(2)), 20);
    let text = '';
    for await (const part of socket) text += part as string;
    assert.equal(text, 'né');
  });

  it('takes setNoDelay, setKeepAlive, ref and unref, also after its end', async (test) => {
    const { socket } = await connected(test, { noDelay: true, keepAlive: true });
    for (const state of ['open', 'closed']) {
      assert.equal(socket.setNoDelay().setKeepAlive(true, 1000).unref().ref(), socket, state);
      socket.destroy();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });
});

interface Ends {
  readonly localPort?: number | undefined;
  readonly remotePort?: number | undefined;
}

/** Seconds until a keep-alive is sent, as proc(5) says in its tcp; undefined when none will be. */
function keepAliveSeconds({ localPort = 0, remotePort = 0 }: Ends): number | undefined {
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0');
  const line = new RegExp(`:${hex(localPort)} \\w+:${hex(remotePort)} \\w+ \\w+:\\w+ (\\w+):(\\w+)`);
  const [, timer, ticks = ''] = line.exec(readFileSync('/proc/net/tcp', 'utf8')) ?? [];
  const ticksPerSecond = 100;
  return timer === '02' ? parseInt(ticks, 16) / ticksPerSecond : undefined;
}

/** Pairs that must have been quick enough to tell, and pairs that may be tried for them. */
const wanted = 5;
const triesMax = 1_000;
/** Within this many milliseconds no acknowledgement is sent late: Linux waits 40 at least. */
const quickMs = 30;
/** How long the second may take to arrive when nothing holds it back, in milliseconds. */
const arrivalMs = 5;

/**
 * Writes pairs of small messages and returns how many of the quick ones were held back, 0 to `wanted`: the second had not
 * arrived a little after it was said to be written. Nagle's algorithm keeps it until the first is acknowledged, with which a peer
 * that answers takes its time. A pair that a busy machine took longer for says nothing.
 */
async function pairsHeldBack(socket: Socket, peer: net.Socket): Promise<number> {
  let held = 0;
  let quick = 0;
  for (let i = 0; quick < wanted; i += 1) {
    assert.ok(i < triesMax, `${quick} of ${triesMax} pairs took less than ${quickMs} ms, expected ${wanted}`);
    // The system takes the peer for one that answers.
    for (let exchange = 0; exchange < 5; exchange += 1) {
      socket.write('x');
      await readBytes(peer, 1);
      peer.write('y');
      await readBytes(socket, 1);
    }
    const begun = performance.now();
    for (const part of ['a', 'b']) await new Promise((resolve) => socket.write(part, resolve));
    // What has arrived is read by then: between timers and immediates the loop looks at its sockets.
    await new Promise((resolve) => setTimeout(resolve, arrivalMs));
    await new Promise((resolve) => setImmediate(resolve));
    const arrived = peer.readableLength;
    if (performance.now() - begun < quickMs) {
      quick += 1;
      if (arrived < 2) held += 1;
    }
    await readBytes(peer, 2);
  }
  return held;
}
