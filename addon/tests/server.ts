import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { pipeline } from 'node:stream/promises';
import { Transform } from 'node:stream';
import { describe, it } from 'node:test';
import type { Server, Socket } from '../index.js';
import { createServer, openRing } from '../index.js';
import { connectFor, noise, readBytes, ringFor, serverFor, sleepy, stuck } from './rig.js';

const echo = (socket: Socket): void => {
  socket.on('error', () => undefined);
  socket.pipe(socket);
};

describe('a server', () => {
  it('echoes to many connections at once, every byte', async (test) => {
    const { port } = await serverFor(test, echo, { ring: { ...sleepy, workers: 2 } });
    const peers = await Promise.all(Array.from({ length: 20 }, () => connectFor(test, port)));

    const wrong = await Promise.all(
      peers.map(async (peer, i) => {
        const message = noise(1 + i * 2000);
        for (let round = 0; round < 3; round += 1) {
          peer.write(message);
          if (!(await readBytes(peer, message.length)).equals(message)) return true;
        }
        return false;
      }),
    );

    assert.ok(!wrong.includes(true));
  });

  it('tells its address, and emits listening, connection and close', async () => {
    const events: string[] = [];
    const server = createServer({ ring: sleepy });
    for (const name of ['listening', 'connection', 'close']) server.on(name, () => events.push(name));
    assert.equal(server.address(), null);
    assert.equal(server.listening, false);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.deepEqual({ ...address, port: 0 }, { address: '127.0.0.1', family: 'IPv4', port: 0 });
    assert.equal(server.listening, true);

    const peer = net.connect(address?.port ?? 0, '127.0.0.1');
    const [socket] = (await once(server, 'connection')) as [Socket];
    assert.equal(socket.remotePort, peer.localPort);
    assert.equal(socket.localPort, address?.port);
    assert.equal(socket.remoteAddress, '127.0.0.1');
    assert.equal(socket.remoteFamily, 'IPv4');
    server.close();
    assert.equal(server.listening, false);
    socket.resume();
    peer.end();
    await once(server, 'close');

    assert.deepEqual(events, ['listening', 'connection', 'close']);
    assert.equal(server.ring.closed, true);
  });

  it('listens on IPv6 and IPv4 at once when no host is given, and looks names up', async (test) => {
    for (const options of [{}, { host: 'localhost' }]) {
      const server = createServer({ ring: ringFor(test) }, echo);
      server.listen(options);
      await once(server, 'listening');
      const peer = net.connect(server.address()?.port ?? 0, 'localhost');
      peer.write('x');
      assert.equal((await readBytes(peer, 1)).toString(), 'x');
      peer.end();
      await server[Symbol.asyncDispose]();
    }
  });

  it('says EADDRINUSE as an error event, and refuses to listen twice', async (test) => {
    const { server, port } = await serverFor(test, echo);
    const second = createServer({ ring: server.ring });

    second.listen(port, '127.0.0.1');
    const [error] = (await once(second, 'error')) as [NodeJS.ErrnoException];

    assert.deepEqual(
      { code: error.code, syscall: error.syscall, errno: error.errno },
      { code: 'EADDRINUSE', syscall: 'listen', errno: -98 },
    );
    assert.throws(() => server.listen(0), { code: 'ERR_SERVER_ALREADY_LISTEN' });
  });

  it('says ERR_SERVER_NOT_RUNNING when closed twice', async (test) => {
    const server = createServer({ ring: ringFor(test) });
    const error = await new Promise<Error | undefined>((resolve) => server.close(resolve));
    assert.equal((error as NodeJS.ErrnoException).code, 'ERR_SERVER_NOT_RUNNING');
  });

  it('drops connections beyond maxConnections, and counts the others', async (test) => {
    const { server, port } = await serverFor(test, echo);
    server.maxConnections = 1;
    const first = await connectFor(test, port);
    first.write('x');
    await readBytes(first, 1);

    const dropped = once(server, 'drop');
    const second = await connectFor(test, port);
    second.resume();
    await Promise.all([dropped, once(second, 'close')]);

    const count = await new Promise((resolve) =>
      server.getConnections((_, number) => {
        resolve(number);
      }),
    );
    assert.equal(count, 1);
  });

  it('serves on a ring that other servers use, too', async (test) => {
    const ring = ringFor(test);
    const servers = await Promise.all([serverFor(test, echo, { ring }), serverFor(test, echo, { ring })]);
    for (const { server, port } of servers) {
      const peer = await connectFor(test, port);
      peer.write('x');
      await readBytes(peer, 1);
      peer.destroy();
      await server[Symbol.asyncDispose]();
    }
    assert.equal(ring.closed, false);
  });

  it('is an error event when its ring is closed', async () => {
    const ring = openRing(sleepy);
    const server = createServer({ ring });
    await ring.close();
    server.listen(0);
    const [error] = (await once(server, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ERR_FASTIO_CLOSED');
  });

  it('carries HTTP: node:http takes its connections as they are', async (test) => {
    const web = http.createServer((request, response) => {
      request.pipe(response);
    });
    const { port } = await serverFor(test, (socket) => web.emit('connection', socket), { noDelay: true });
    const agent = new http.Agent({ keepAlive: true });
    const body = noise(100_000);

    for (let i = 0; i < 3; i += 1) {
      const request = http.request({ port, host: '127.0.0.1', agent, method: 'POST' });
      request.end(body);
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      assert.ok((await readBytes(response, body.length)).equals(body));
    }
    agent.destroy();
  });
});

/** The connection at the server's side, and its peer. */
async function connected(
  test: Parameters<typeof serverFor>[0],
  options: Parameters<typeof createServer>[0] = {},
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
      assert.ok((await written) instanceof Error);
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

  it('takes setNoDelay, setKeepAlive, ref and unref, also after its end', async (test) => {
    const { socket } = await connected(test, { noDelay: true, keepAlive: true });
    for (const state of ['open', 'closed']) {
      assert.equal(socket.setNoDelay().setKeepAlive(true, 1000).unref().ref(), socket, state);
      socket.destroy();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });
});
