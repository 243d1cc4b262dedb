import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { describe, it } from 'node:test';
import type { Ring } from '../index.js';
import { openRing } from '../index.js';
import type { Native } from '../native.js';
import { loadNative } from '../native.js';
import type { NativeOptions } from '../options.js';
import {
  fileFor,
  listenerFor,
  connectFor,
  noise,
  pairFor,
  pairsFor,
  pipeFor,
  readBytes,
  ringFor,
  settled,
  sleepy,
} from './rig.js';

describe('a ring', () => {
  it('sends and receives, as promises and with callbacks', async (test) => {
    const ring = ringFor(test);
    const { fd, peer } = await pairFor(test, ring);
    const buffer = Buffer.alloc(100);

    peer.write('ping');
    const received = await ring.recv(fd, buffer);
    const sent = await new Promise((resolve, reject) => {
      ring.send(fd, Buffer.from('pong!'), (error, bytes) => {
        if (error === null) resolve(bytes);
        else reject(error);
      });
    });

    assert.equal(buffer.toString('latin1', 0, received), 'ping');
    assert.equal(sent, 5);
    assert.equal((await readBytes(peer, 5)).toString(), 'pong!');
  });

  it('tells the end of a stream as 0', async (test) => {
    const ring = ringFor(test);
    const { fd, peer } = await pairFor(test, ring);
    peer.end();

    assert.equal(await ring.recv(fd, Buffer.alloc(1)), 0);
  });

  it('receives into any view, and only there', async (test) => {
    const ring = ringFor(test);
    const { fd, peer } = await pairFor(test, ring);
    const memory = new Uint8Array(16).fill(7);
    const view = new DataView(memory.buffer, 4, 3);
    peer.write('abcdef');

    assert.equal(await ring.recv(fd, view), 3);

    assert.deepEqual([...memory.subarray(0, 8)], [7, 7, 7, 7, 97, 98, 99, 7]);
  });

  it('sends what is larger than a block, whole and in order, to a peer that takes its time', async (test) => {
    const ring = ringFor(test, { blockBytes: 65_536 });
    const { fd, peer } = await pairFor(test, ring);
    const message = noise(3_000_001);

    const sent = ring.send(fd, message);
    await new Promise((resolve) => setImmediate(resolve));
    const received = await readBytes(peer, message.length);

    assert.equal(await sent, message.length);
    assert.ok(received.equals(message));
  });

  it('reads and writes files at a place, at their own position, and past their end', async (test) => {
    const ring = ringFor(test, { blockBytes: 1024 });
    const content = noise(10_000);
    const fd = fileFor(test, content);
    const buffer = Buffer.alloc(20_000);

    assert.equal(await ring.read(fd, buffer, { position: 0 }), 10_000);
    assert.ok(buffer.subarray(0, 10_000).equals(content));
    assert.equal(await ring.read(fd, buffer, { position: 9_990n }), 10);
    assert.equal(await ring.read(fd, buffer, { position: 10_000 }), 0);
    assert.equal(await ring.read(fd, buffer.subarray(0, 100)), 100);
    assert.equal(await ring.write(fd, noise(5000), { position: 8_000 }), 5000);
    assert.equal(readFileSync(`/proc/self/fd/${fd}`).length, 13_000);
  });

  it('waits for a pipe', async (test) => {
    const ring = ringFor(test);
    const fd = pipeFor(test);
    const buffer = Buffer.alloc(100);

    const reading = ring.read(fd, buffer);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(ring.active, 1);
    assert.equal(await ring.write(fd, Buffer.from('hello')), 5);

    assert.equal(buffer.toString('latin1', 0, await reading), 'hello');
  });

  it('accepts as an iterator, and breaking out of the loop ends that', async (test) => {
    const ring = ringFor(test);
    const { fd, port } = listenerFor(test);
    const descriptors: number[] = [];
    const peers = await Promise.all([1, 2, 3].map(() => connectFor(test, port)));

    for await (const connection of ring.accept(fd)) {
      descriptors.push(connection);
      if (descriptors.length === peers.length) break;
    }
    const closed = Promise.all(peers.map((peer) => once(peer.resume(), 'close')));
    await Promise.all(descriptors.map((connection) => ring.closeDescriptor(connection)));
    await closed;

    assert.equal(new Set(descriptors).size, 3);
    await settled(ring);
  });

  it('has more operations in flight than its queues have entries', async (test) => {
    const ring = ringFor(test, { sqEntries: 4, cqEntries: 1024, workers: 2 });
    const pairs = await pairsFor(test, ring, 40);
    const buffers = pairs.map(() => Buffer.alloc(10));

    const receiving = pairs.map(({ fd }, index) => ring.recv(fd, buffers[index] ?? Buffer.alloc(0)));
    pairs.forEach(({ peer }, index) => peer.write(String(index)));
    const lengths = await Promise.all(receiving);

    assert.deepEqual(
      lengths.map((length, index) => buffers[index]?.toString('latin1', 0, length)),
      pairs.map((_, index) => String(index)),
    );
  });

  it('makes what finds no memory wait its turn', async (test) => {
    const ring = ringFor(test, { blockBytes: 1024, memoryBytes: 4096 });
    const pairs = await pairsFor(test, ring, 20);
    const message = noise(8_000);

    const sending = Promise.all(pairs.map(({ fd }) => ring.send(fd, message)));
    const received = await Promise.all(pairs.map(({ peer }) => readBytes(peer, message.length)));

    assert.deepEqual(
      await sending,
      pairs.map(() => message.length),
    );
    assert.ok(received.every((bytes) => bytes.equals(message)));
  });

  it('serves several workers, this thread alone, and both together', async (test) => {
    for (const options of [{ workers: 3 }, { workers: 0 }, { workers: 1, selfWeight: 4 }]) {
      const ring = ringFor(test, options);
      const pairs = await pairsFor(test, ring, 8);
      for (const { fd, peer } of pairs) {
        const buffer = Buffer.alloc(10);
        peer.write('x');
        assert.equal(await ring.recv(fd, buffer), 1, JSON.stringify(options));
        assert.equal(await ring.send(fd, Buffer.from('ok')), 2);
        assert.equal((await readBytes(peer, 2)).toString(), 'ok');
      }
      await ring.close();
    }
  });

  it('executes all there is before it sleeps, however little at once', async (test) => {
    const ring = ringFor(test, { workers: 0, selfBatch: 1 });
    const pairs = await pairsFor(test, ring, 20);
    await settled(ring);

    const receiving = pairs.map(({ fd }) => ring.recv(fd, Buffer.alloc(1)));
    // The loop goes to sleep but for this.
    await new Promise((resolve) => setTimeout(resolve, 50));

    assert.deepEqual(
      ring.stats().map(({ inFlight }) => inFlight),
      [pairs.length],
    );
    for (const { peer } of pairs) peer.write('x');
    assert.deepEqual(
      await Promise.all(receiving),
      pairs.map(() => 1),
    );
  });

  it('crosses into the native half and back once per batch, not per operation', async (test) => {
    const calls = countCrossings(test);
    const ring = ringFor(test, { workers: 0, selfBatch: 0 });
    const pairs = await pairsFor(test, ring, 40);
    const rounds = 10;
    for (const { peer } of pairs) peer.resume();
    await settled(ring);
    calls.count = 0;

    for (let round = 0; round < rounds; round += 1) {
      await Promise.all(pairs.map(({ fd }) => ring.send(fd, Buffer.from('x'))));
    }

    // Once a round the process is held and released, and completions are handed over, in two parts if need be.
    assert.ok(calls.count >= rounds && calls.count <= 4 * rounds, `${calls.count} calls`);
  });

  it('is closed by await using', async () => {
    let kept: Ring;
    {
      await using ring = openRing(sleepy);
      assert.equal(ring.closed, false);
      kept = ring;
    }
    assert.equal(kept.closed, true);
  });

  it('takes its shape from a fastio.conf, and says where that is wrong', (test) => {
    const good = fileFor(
      test,
      'max_usr_worker = 1\nmax_ker_worker = 2\naffinity_offset = -1\nwq_affinity_offset = -1\n',
    );
    const bad = fileFor(test, 'max_ker_worker = 1\nmax_ker_wroker = 2\n');

    const ring = ringFor(test, { conf: `/proc/self/fd/${good}` });

    assert.equal(ring.workers, 2);
    assert.throws(() => ringFor(test, { conf: `/proc/self/fd/${bad}` }), {
      code: 'EINVAL',
      syscall: 'fastio_setup',
      message: new RegExp(`/proc/self/fd/${bad}:2: found`),
    });
  });
});

/** Counts calls of the native half and by it, for rings opened from now on. */
function countCrossings(test: TestContext): { count: number } {
  const calls = { count: 0 };
  const native = loadNative() as { NativeRing: Native['NativeRing'] };
  const { NativeRing } = native;
  test.after(() => {
    native.NativeRing = NativeRing;
  });
  native.NativeRing = class extends NativeRing {
    constructor(options: NativeOptions, dispatch: () => void) {
      super(options, () => {
        calls.count += 1;
        dispatch();
      });
      for (const name of ['flush', 'hold', 'release', 'grow'] as const) {
        const call = super[name].bind(this) as (...args: unknown[]) => unknown;
        Object.defineProperty(this, name, {
          value: (...args: unknown[]) => {
            calls.count += 1;
            return call(...args);
          },
        });
      }
    }
  };
  return calls;
}
