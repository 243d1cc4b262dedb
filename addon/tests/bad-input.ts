import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { describe, it } from 'node:test';
import { createServer, openListener, openRing } from '../index.js';
import { fileFor, pairFor, ringFor } from './rig.js';

/** Calls as JavaScript may make them, which the types forbid. */
type Loose = Record<string, (...args: unknown[]) => unknown>;
const loose = (value: unknown): Loose => value as Loose;
const type = 'ERR_INVALID_ARG_TYPE';
const range = 'ERR_OUT_OF_RANGE';
const buffer = Buffer.alloc(8);
const callback = (): void => undefined;

function detached(): Uint8Array {
  const bytes = new Uint8Array(8);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

const badOptions: readonly (readonly [unknown, string])[] = [
  [null, type],
  [3, type],
  [[], type],
  ['workers', type],
  [{ workers: '1' }, type],
  [{ workers: -1 }, range],
  [{ workers: 64 }, range],
  [{ workers: 1.5 }, range],
  [{ workers: NaN }, range],
  [{ worker: 1 }, range],
  [{ sqEntries: 3 }, range],
  [{ sqEntries: 65_536 }, range],
  [{ cqEntries: 0 }, range],
  [{ sqEntries: 64, cqEntries: 8 }, 'EINVAL'],
  [{ backend: 'fast' }, range],
  [{ backend: 1 }, type],
  [{ conf: '' }, range],
  [{ conf: 'a\0b' }, range],
  [{ conf: '/nonexistent/fastio.conf' }, 'ENOENT'],
  [{ cpus: 0 }, type],
  [{ cpus: ['0'] }, type],
  [{ cpus: [1023] }, 'EINVAL'],
  [{ blockBytes: 1000 }, range],
  [{ blockBytes: 2 ** 21 }, range],
  [{ receiveBuffers: 7 }, range],
  [{ memoryBytes: 1 }, range],
  [{ idleUs: 10_000_001 }, range],
  [{ selfWeight: 5 }, range],
  [{ quiet: 1 }, type],
];

/** Method, arguments, code. Run as promise and, where there is one, with a callback. */
const badCalls: readonly (readonly [string, readonly unknown[], string])[] = [
  ['recv', [], type],
  ['recv', ['1', buffer], type],
  ['recv', [-1, buffer], range],
  ['recv', [1.5, buffer], range],
  ['recv', [2 ** 31, buffer], range],
  ['recv', [0], type],
  ['recv', [0, null], type],
  ['recv', [0, 'text'], type],
  ['recv', [0, [1]], type],
  ['recv', [0, new ArrayBuffer(8)], type],
  ['recv', [0, Buffer.alloc(0)], range],
  ['recv', [0, detached()], range],
  ['send', [0, 'text'], type],
  ['send', [{}, buffer], type],
  ['read', [0, 3], type],
  ['write', [null, buffer], type],
];

describe('bad input', () => {
  for (const [options, code] of badOptions) {
    it(`is refused by openRing(${show(options)})`, () => {
      assert.throws(() => loose({ openRing })['openRing']?.(options), { code });
    });
  }

  it('is refused by every operation, as a rejection or at once', async (test) => {
    const ring = ringFor(test);
    for (const [method, args, code] of badCalls) {
      const call = loose(ring)[method];
      const name = `${method}(${args.map(show).join(', ')})`;
      await assert.rejects(() => call?.(...args) as Promise<unknown>, { code }, name);
      if (args.length < 2) continue;
      const isFile = method === 'read' || method === 'write';
      assert.throws(
        () => call?.(...args, ...(isFile ? [null] : []), callback),
        { code },
        `${name} with a callback`,
      );
    }
    assert.equal(ring.active, 0);
  });

  it('is refused when it is larger than one call can move', async (test) => {
    const ring = ringFor(test);
    // Addresses, not memory: nobody touches it.
    const oversized = new Uint8Array(2 ** 31);
    for (const method of ['recv', 'send', 'read', 'write'] as const) {
      await assert.rejects(ring[method](0, oversized), { code: range });
    }
  });

  it('is refused in options of operations', async (test) => {
    const ring = ringFor(test);
    const { recv, read } = loose(ring);
    await assert.rejects(() => recv?.(0, buffer, 5) as Promise<unknown>, { code: type });
    await assert.rejects(() => recv?.(0, buffer, { signal: {} }) as Promise<unknown>, { code: type });
    await assert.rejects(() => recv?.(0, buffer, { position: 1 }) as Promise<unknown>, { code: range });
    await assert.rejects(() => read?.(0, buffer, { position: -1 }) as Promise<unknown>, { code: range });
    await assert.rejects(() => read?.(0, buffer, { position: 1n << 63n }) as Promise<unknown>, {
      code: range,
    });
    await assert.rejects(() => read?.(0, buffer, { position: '0' }) as Promise<unknown>, { code: type });
    assert.throws(() => read?.(0, buffer, null, 'callback'), { code: type });
    assert.throws(() => loose(ring)['accept']?.('0'), { code: type });
    await assert.rejects(() => loose(ring)['closeDescriptor']?.(-1) as Promise<unknown>, { code: range });
  });

  it('is refused by servers', (test) => {
    const ring = ringFor(test);
    const create = loose({ createServer })['createServer'];
    assert.throws(() => create?.({ ring: 5 }), TypeError);
    assert.throws(() => create?.({ ring: { workers: -1 } }), { code: range });
    assert.throws(() => create?.({ ring: { ...ring } }), { code: type });
    assert.throws(() => create?.({ ring, halfOpen: true }), { code: range });
    assert.throws(() => create?.({ ring, noDelay: 1 }), { code: type });
    assert.throws(() => create?.({ ring }, 'listener'), { code: type });
    const server = createServer({ ring });
    assert.throws(() => loose(server)['listen']?.(65_536), { code: range });
    assert.throws(() => loose(server)['listen']?.({ port: '80' }), { code: type });
    assert.throws(() => loose(server)['listen']?.({ host: '' }), { code: range });
    assert.throws(() => loose({ openListener })['openListener']?.({ prot: 1 }), { code: range });
    assert.throws(() => openListener({ host: 'localhost' }), { code: 'EINVAL', syscall: 'listen' });
  });
});

describe('the system’s errors', () => {
  it('come with code, errno and syscall, as Node’s own', async (test) => {
    const ring = ringFor(test);
    const badf = { code: 'EBADF', errno: -9 };
    await assert.rejects(ring.recv(9_999, buffer), { ...badf, syscall: 'recv', message: 'recv EBADF' });
    await assert.rejects(ring.send(9_999, buffer), { ...badf, syscall: 'send' });
    await assert.rejects(ring.read(9_999, buffer), { ...badf, syscall: 'read' });
    await assert.rejects(ring.write(9_999, buffer, { position: 0 }), { ...badf, syscall: 'write' });
    await assert.rejects(ring.closeDescriptor(9_999), { ...badf, syscall: 'close' });
    await assert.rejects(ring.accept(9_999).next(), { ...badf, syscall: 'accept' });
    await assert.rejects(ring.accept(fileFor(test, '')).next(), { code: 'ENOTSOCK', syscall: 'accept' });
    await assert.rejects(ring.recv(fileFor(test, ''), buffer), { code: 'ENOTSOCK', syscall: 'recv' });
    const directory = openSync('/', 'r');
    test.after(() => {
      closeSync(directory);
    });
    await assert.rejects(ring.read(directory, buffer), { code: 'EISDIR', syscall: 'read' });
  });

  it('come through callbacks with 0 bytes', async (test) => {
    const ring = ringFor(test);

    const [error, bytes] = await new Promise<readonly [Error | null, number]>((resolve) => {
      ring.recv(9_999, buffer, (failure, moved) => {
        resolve([failure, moved]);
      });
    });

    assert.equal((error as NodeJS.ErrnoException).code, 'EBADF');
    assert.equal(bytes, 0);
  });

  it('tell of a peer that is gone', async (test) => {
    const ring = ringFor(test);
    const { fd, peer } = await pairFor(test, ring);
    peer.resetAndDestroy();

    await assert.rejects(ring.recv(fd, buffer), { code: 'ECONNRESET', errno: -104 });
    await assert.rejects(ring.send(fd, buffer), { code: 'EPIPE' });
  });

  it('tell of an address that is taken', (test) => {
    const first = openListener({ host: '127.0.0.1' });
    const ring = ringFor(test);
    test.after(() => ring.close());

    assert.throws(() => openListener({ host: '192.0.2.1' }), { code: 'EADDRNOTAVAIL', address: '192.0.2.1' });
    return ring.closeDescriptor(first);
  });
});

function show(value: unknown): string {
  if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`;
  return typeof value === 'number'
    ? String(value)
    : value === undefined
      ? 'undefined'
      : JSON.stringify(value);
}
