import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Ring, RingOptions, Server, ServerOptions, Socket } from '../index.js';
import { createServer, openListener, openRing } from '../index.js';
import { loadNative } from '../native.js';

/** Workers soon go to sleep: pollers would take the CPUs that everything else needs, and so tests see both ways. */
export const sleepy = { quiet: true, idleUs: 500 } as const;

/** A ring that the end of the test closes. The back end is $FASTIO_BACKEND's. */
export function ringFor(test: TestContext, options: RingOptions = {}): Ring {
  const ring = openRing({ ...sleepy, ...options });
  test.after(() => ring.close());
  return ring;
}

/** A listening socket and its port. */
export function listenerFor(test: TestContext): { readonly fd: number; readonly port: number } {
  const fd = openListener({ host: '127.0.0.1' });
  test.after(() => loadNative().closeNow(fd));
  const endpoint = loadNative().endpoint(fd, false);
  if (typeof endpoint === 'number') throw new Error(`getsockname ${endpoint}`);
  return { fd, port: endpoint.port };
}

export interface Pair {
  /** A descriptor that the ring accepted. */
  readonly fd: number;
  readonly peer: net.Socket;
}

/** Connections between Node's own sockets and the ring. */
export async function pairsFor(test: TestContext, ring: Ring, count = 1): Promise<readonly Pair[]> {
  const { fd, port } = listenerFor(test);
  const connections = ring.accept(fd);
  const pairs: Pair[] = [];
  for (let i = 0; i < count; i += 1) {
    const peer = await connectFor(test, port);
    const next = await connections.next();
    if (next.done === true) throw new Error('no connection');
    pairs.push({ fd: next.value, peer });
  }
  await connections.return?.();
  return pairs;
}

/** The only pair of a ring. */
export async function pairFor(test: TestContext, ring: Ring): Promise<Pair> {
  const [pair] = await pairsFor(test, ring);
  if (pair === undefined) throw new Error('no pair');
  return pair;
}

export async function connectFor(
  test: TestContext,
  port: number,
  options: net.SocketConstructorOpts = {},
): Promise<net.Socket> {
  const peer = net.connect({ port, host: '127.0.0.1', ...options });
  test.after(() => peer.destroy());
  // Many tests end a connection under its peer.
  peer.on('error', () => undefined);
  await once(peer, 'connect');
  return peer;
}

/** Whose server is tested: FastIO's, or Node's own net, which must pass what is said to be as in net. */
export const tested = process.env['FASTIO_TESTED'] === 'net' ? 'net' : 'fastio';
/** For what is not in net. */
export const onlyFastio = { skip: tested === 'net' };

/** A server, with a ring of its own unless the options say otherwise. */
export function createTested(options: ServerOptions, listener?: (socket: Socket) => void): Server {
  if (tested === 'fastio') return createServer({ ring: sleepy, ...options }, listener);
  const others = Object.fromEntries(Object.entries(options).filter(([name]) => name !== 'ring'));
  // What it has besides is not used; what it lacks must fail.
  return net.createServer(others, listener as unknown as (socket: net.Socket) => void) as unknown as Server;
}

export interface Serving {
  readonly server: Server;
  readonly port: number;
}

/** A server on a port of the system's choice; closed, connections and all, by the end of the test. */
export async function serverFor(
  test: TestContext,
  listener: (socket: Socket) => void,
  options: ServerOptions = {},
): Promise<Serving> {
  const server = createTested(options, listener);
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  test.after(async () => {
    // Net's waits for them.
    if (tested === 'net') for (const socket of sockets) socket.destroy();
    await server[Symbol.asyncDispose]();
  });
  server.listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  return { server, port: server.address()?.port ?? 0 };
}

/** A file with this content; gone at the end of the test. */
export function fileFor(test: TestContext, content: Uint8Array | string): number {
  const directory = mkdtempSync(join(tmpdir(), 'fastio-addon-'));
  const path = join(directory, 'file');
  writeFileSync(path, content);
  const fd = openSync(path, 'r+');
  test.after(() => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  return fd;
}

/** A pipe whose both ends one descriptor is. */
export function pipeFor(test: TestContext): number {
  const directory = mkdtempSync(join(tmpdir(), 'fastio-addon-'));
  const path = join(directory, 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, 'r+');
  test.after(() => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  return fd;
}

/** Exactly so many bytes of a stream. */
export async function readBytes(stream: NodeJS.ReadableStream, count: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  while (length < count) {
    const chunk = stream.read() as Buffer | null;
    if (chunk === null) {
      // The end makes it readable, too.
      await once(stream, 'readable');
      if ('readableEnded' in stream && stream.readableEnded === true) break;
      continue;
    }
    chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks);
}

/** More than the system buffers between two ends, in blocks that make few operations of it. */
export const stuck = { bytes: 20_000_000, blockBytes: 1_048_576 } as const;

/** Bytes that no two places share. */
export function noise(count: number): Buffer {
  return randomBytes(count);
}

/** The addon, for scripts to import. */
export const index = new URL('../index.js', import.meta.url).href;

/** Runs a script in a process of its own; what it printed, both streams. */
export async function run(
  script: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<{ readonly status: number | null; readonly output: string }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, ...environment },
    timeout: 60_000,
  });
  let output = '';
  const take = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on('data', take);
  child.stderr.on('data', take);
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, output };
}

/** Waits until nothing is in flight; a cancellation completes after what it cancelled. */
export async function settled(ring: Ring): Promise<void> {
  for (let look = 0; ring.active > 0; look += 1) {
    if (look === 1_000) throw new Error(`${ring.active} operations are still in flight`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
