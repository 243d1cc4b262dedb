import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { listenerFor, pairFor, pairsFor, ringFor, settled, stuck } from './rig.js';

describe('an AbortSignal', () => {
  it('ends a receive with an AbortError that has its reason, and nothing is lost', async (test) => {
    const ring = ringFor(test);
    const { fd, peer } = await pairFor(test, ring);
    const controller = new AbortController();
    const reason = new Error('enough');

    const receiving = ring.recv(fd, Buffer.alloc(10), { signal: controller.signal });
    setImmediate(() => {
      controller.abort(reason);
    });

    await assert.rejects(receiving, { name: 'AbortError', code: 'ABORT_ERR', cause: reason });
    peer.write('later');
    assert.equal(await ring.recv(fd, Buffer.alloc(10)), 5);
  });

  it('that is aborted already lets nothing begin', async (test) => {
    const ring = ringFor(test);
    const { fd } = await pairFor(test, ring);
    await settled(ring);

    const receiving = ring.recv(fd, Buffer.alloc(10), { signal: AbortSignal.abort() });

    assert.equal(ring.active, 0);
    await assert.rejects(receiving, { code: 'ABORT_ERR' });
  });

  it('ends a send that is stuck', async (test) => {
    const ring = ringFor(test, { blockBytes: stuck.blockBytes });
    const { fd, peer } = await pairFor(test, ring);
    const controller = new AbortController();
    peer.pause();

    const sending = ring.send(fd, Buffer.alloc(stuck.bytes), { signal: controller.signal });
    setTimeout(() => {
      controller.abort();
    }, 50);

    await assert.rejects(sending, { code: 'ABORT_ERR' });
    await settled(ring);
  });

  it('ends what waits for memory at once, and nothing else', async (test) => {
    const { blockBytes, bytes } = stuck;
    const ring = ringFor(test, { blockBytes, memoryBytes: blockBytes });
    const [slow, other] = await pairsFor(test, ring, 2);
    assert.ok(slow !== undefined && other !== undefined);
    slow.peer.pause();
    const first = ring.send(slow.fd, Buffer.alloc(bytes));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const controller = new AbortController();

    const second = ring.send(other.fd, Buffer.alloc(10), { signal: controller.signal });
    controller.abort();

    await assert.rejects(second, { code: 'ABORT_ERR' });
    slow.peer.resume();
    assert.equal(await first, bytes);
  });

  it('ends accepting', async (test) => {
    const ring = ringFor(test);
    const controller = new AbortController();
    const next = ring.accept(listenerFor(test).fd, { signal: controller.signal }).next();

    controller.abort();

    await assert.rejects(next, { code: 'ABORT_ERR' });
  });
});
