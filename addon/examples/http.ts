import http from 'node:http';
import { parseArgs } from 'node:util';
import { createServer } from '../index.js';

/**
 * An HTTP server whose connections are FastIO's: node:http takes any stream as a connection. Try it:
 * `node http.js --port 8080`, then any load tool: `npx autocannon -c 25 http://127.0.0.1:8080/`.
 */
const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '8080' },
    workers: { type: 'string', default: '1' },
    hybrid: { type: 'boolean', default: false },
    /** Node's own connections, to compare with. */
    net: { type: 'boolean', default: false },
  },
});
const web = http.createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.end('hello\n');
});
const ring = { workers: Number(values.workers), ...(values.hybrid ? { selfWeight: 4 } : {}) };
const server = values.net
  ? web
  : createServer({ ring, noDelay: true }, (socket) => web.emit('connection', socket));
server.listen(Number(values.port), '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`READY port=${typeof address === 'object' ? (address?.port ?? 0) : 0}\n`);
});
process.once('SIGTERM', () => {
  web.closeAllConnections();
  void server[Symbol.asyncDispose]();
});
