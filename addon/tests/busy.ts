import { once } from 'node:events';
import net from 'node:net';
import { parentPort } from 'node:worker_threads';
import { createServer } from '../index.js';
import { sleepy } from './rig.js';

/** A worker thread with connections, receives and sends in flight; says so, and goes on until it is ended. */
const server = createServer({ ring: { ...sleepy, workers: 2 } }, (socket) => {
  socket.on('error', () => undefined);
  socket.pipe(socket);
});
server.listen({ host: '127.0.0.1' });
await once(server, 'listening');
const port = server.address()?.port ?? 0;
let echoed = 0;
for (let i = 0; i < 10; i += 1) {
  const peer = net.connect(port, '127.0.0.1');
  const message = Buffer.alloc(1000 * (i + 1), i);
  peer.on('error', () => undefined);
  peer.on('data', () => {
    echoed += 1;
    if (echoed === 100) parentPort?.postMessage('busy');
    peer.write(message);
  });
  peer.write(message);
}
