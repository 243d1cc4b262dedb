import net from 'node:net';
import { parseArgs } from 'node:util';
import { createServer, openListener, openRing } from '../index.js';

/**
 * Echo servers, one for each way Node can do it; only the I/O differs.
 *
 *   --mode net       Node's own net
 *   --mode server    createServer(): streams over FastIO
 *   --mode ring      the callback form: no streams, one buffer for each connection
 *
 * By hand: `node echo.js --mode server --port 12345 --workers 1 & nc 127.0.0.1 12345`
 */
const { values } = parseArgs({
  options: {
    mode: { type: 'string', default: 'server' },
    port: { type: 'string', default: '12345' },
    workers: { type: 'string', default: '1' },
    hybrid: { type: 'boolean', default: false },
    /** CPUs of the workers, as 1,2,3. */
    cpus: { type: 'string', default: '' },
    backend: { type: 'string', default: 'auto' },
    buffer: { type: 'string', default: '16384' },
  },
});
const { mode } = values;
const port = Number(values.port);
const workers = Number(values.workers);
const ready = (): void => void process.stdout.write(`READY port=${port}\n`);
const ring = {
  workers,
  backend: values.backend as 'auto' | 'kernel' | 'user',
  ...(values.hybrid ? { selfWeight: 4 } : {}),
  ...(values.cpus === '' || workers === 0
    ? {}
    : { cpus: values.cpus.split(',').map(Number).slice(0, workers) }),
};

if (mode === 'net') {
  net
    .createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.on('data', (data) => socket.write(data));
    })
    .listen(port, '127.0.0.1', ready);
} else if (mode === 'server') {
  createServer({ ring }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.on('data', (data) => socket.write(data));
  }).listen(port, '127.0.0.1', ready);
} else if (mode === 'ring') {
  const io = openRing(ring);
  const serve = (fd: number): void => {
    const buffer = Buffer.allocUnsafeSlow(Number(values.buffer));
    const end = (): void => void io.closeDescriptor(fd).catch(() => undefined);
    const received = (error: Error | null, bytes: number): void => {
      if (error !== null || bytes === 0) end();
      else io.send(fd, buffer.subarray(0, bytes), sent);
    };
    const sent = (error: Error | null): void => {
      if (error !== null) end();
      else io.recv(fd, buffer, received);
    };
    io.recv(fd, buffer, received);
  };
  const connections = io.accept(openListener({ host: '127.0.0.1', port }));
  ready();
  for await (const fd of connections) serve(fd);
} else {
  throw new RangeError(`--mode: found ${mode}, expected net, server or ring`);
}
