import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { describe, it } from 'node:test';
import type { Server, Socket } from '../index.js';
import { createServer, openRing } from '../index.js';
import {
  connectFor,
  createTested,
  noise,
  onlyFastio,
  readBytes,
  ringFor,
  serverFor,
  sleepy,
  tested,
} from './rig.js';

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
    const server = createTested({});
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
    assert.equal(socket.localAddress, '127.0.0.1');
    assert.deepEqual(socket.address(), { address: '127.0.0.1', family: 'IPv4', port: address?.port });
    server.close();
    assert.equal(server.listening, false);
    socket.resume();
    peer.end();
    await once(server, 'close');

    assert.deepEqual(events, ['listening', 'connection', 'close']);
    if (tested === 'fastio') assert.equal(server.ring.closed, true);
  });

  it('waits with close for its connections, and accepts no more meanwhile', async (test) => {
    const { server, port } = await serverFor(test, echo);
    const peer = await connectFor(test, port);
    peer.write('x');
    await readBytes(peer, 1);
    let closed = false;
    const closing = once(server, 'close');
    server.close(() => {
      closed = true;
    });

    const late = net.connect(port, '127.0.0.1');
    const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException];
    peer.write('y');
    assert.equal((await readBytes(peer, 1)).toString(), 'y');

    assert.equal(error.code, 'ECONNREFUSED');
    assert.equal(closed, false);
    peer.end();
    await closing;
    assert.equal(closed, true);
  });

  it('takes port, host and callback, or options and callback', async () => {
    for (const listen of [
      (server: Server, callback: () => void) => server.listen(0, '127.0.0.1', callback),
      (server: Server, callback: () => void) => server.listen({ port: 0, host: '127.0.0.1' }, callback),
    ]) {
      const server = createTested({});
      await new Promise<void>((resolve) => listen(server, resolve));
      assert.equal(server.address()?.address, '127.0.0.1');
      await new Promise((resolve) => server.close(resolve));
    }
  });

  it('destroys its connections when it is disposed of', onlyFastio, async (test) => {
    const { server, port } = await serverFor(test, echo);
    const peer = await connectFor(test, port);
    peer.write('x');
    await readBytes(peer, 1);

    const ended = once(peer, 'close');
    await server[Symbol.asyncDispose]();
    peer.resume();

    await ended;
  });

  it('listens on IPv6 and IPv4 at once when no host is given, and looks names up', async () => {
    for (const options of [{ port: 0 }, { port: 0, host: 'localhost' }]) {
      const server = createTested({}, echo);
      server.listen(options);
      await once(server, 'listening');
      const peer = net.connect(server.address()?.port ?? 0, 'localhost');
      peer.write('x');
      assert.equal((await readBytes(peer, 1)).toString(), 'x');
      peer.end();
      await server[Symbol.asyncDispose]();
      assert.equal(server.listening, false);
    }
  });

  it('says EADDRINUSE as an error event, and refuses to listen twice', async (test) => {
    const { server, port } = await serverFor(test, echo);
    const second = createTested({ ring: server.ring });

    second.listen(port, '127.0.0.1');
    const [error] = (await once(second, 'error')) as [NodeJS.ErrnoException];

    assert.deepEqual(
      { code: error.code, syscall: error.syscall, errno: error.errno },
      { code: 'EADDRINUSE', syscall: 'listen', errno: -98 },
    );
    assert.throws(() => server.listen(0), { code: 'ERR_SERVER_ALREADY_LISTEN' });
  });

  it('says ERR_SERVER_NOT_RUNNING when closed twice', async () => {
    const server = createTested({});
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

  it('serves on a ring that other servers use, too', onlyFastio, async (test) => {
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

  it('is an error event when its ring is closed', onlyFastio, async () => {
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
