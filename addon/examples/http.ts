import http from 'node:http';
import { createServer } from '../index.js';

/**
 * An HTTP server whose connections are FastIO's: node:http takes any stream as a connection. Try it:
 * `node http.js 8080`, then any load tool: `npx autocannon -c 25 http://127.0.0.1:8080/`.
 */
const web = http.createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.end('hello\n');
});
const server = createServer({ noDelay: true }, (socket) => web.emit('connection', socket));
server.listen(Number(process.argv[2] ?? 8080), '127.0.0.1', () => {
  process.stdout.write(`READY port=${server.address()?.port ?? 0}\n`);
});
process.once('SIGTERM', () => void server[Symbol.asyncDispose]().then(() => process.exit(0)));
