/** FastIO for Node; see addon/README.md. */
export type { SystemError } from './errors.js';
export type { Endpoint, QueueStats } from './native.js';
export type { RingOptions } from './options.js';
export { openRing } from './ring.js';
export type { BytesCallback, FileOptions, OperationOptions, Ring } from './ring.js';
export { createServer, openListener } from './server.js';
export type { ListenOptions, Server, ServerOptions } from './server.js';
export type { Socket } from './socket.js';
