import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { openRing } from '../index.js';
import {
  fileFor,
  index,
  listenerFor,
  noise,
  pairFor,
  pairsFor,
  pipeFor,
  readBytes,
  ringFor,
  run,
  settled,
  sleepy,
  stuck,
} from './rig.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const busy = fileURLToPath(new URL('./busy.js', import.meta.url));

/** ES2024, which Node 20 has and TypeScript's ES2023 library does not know. */
const Resizable = ArrayBuffer as unknown as new (
  length: number,
  options: { maxByteLength: number },
) => ArrayBuffer & { resize(length: number): void };

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

describe('a closed ring', () => {
  it('refuses everything', async (test) => {
    const ring = ringFor(test);
    const { fd } = await pairFor(test, ring);
    await ring.close();
    const closed = { code: 'ERR_FASTIO_CLOSED' };

    await assert.rejects(ring.recv(fd, Buffer.alloc(1)), closed);
    await assert.rejects(ring.send(fd, Buffer.alloc(1)), closed);
    await assert.rejects(ring.closeDescriptor(fd), closed);
    assert.throws(() => ring.accept(fd), closed);
    assert.throws(() => ring.stats(), closed);
    assert.throws(() => {
      ring.recv(fd, Buffer.alloc(1), () => undefined);
    }, closed);
    assert.equal(ring.closed, true);
    await ring.close();
  });

  it('has ended what was in flight, and closed what it accepted', async (test) => {
    const before = openFiles();
    const ring = openRing(sleepy);
    const pairs = await pairsFor(test, ring, 20);
    const next = ring.accept(listenerFor(test).fd).next();
    const operations = pairs.map(({ fd }, i) =>
      i % 2 === 0 ? ring.recv(fd, Buffer.alloc(10)) : ring.send(fd, Buffer.alloc(stuck.bytes)),
    );
    const outcomes = Promise.allSettled([next, ...operations]);

    await ring.close();

    for (const outcome of await outcomes) assert.equal(outcome.status, 'rejected');
    await Promise.all(
      pairs.map(async ({ peer }) => (peer.destroyed ? undefined : once(peer.resume(), 'close'))),
    );
    // Two listeners of this test's are still open.
    assert.ok(openFiles() <= before + 2, `${openFiles()} open files, ${before} before`);
  });

  it('may be closed from a callback of its own', async (test) => {
    const ring = ringFor(test);
    const [first, second] = await pairsFor(test, ring, 2);
    assert.ok(first !== undefined && second !== undefined);
    const other = new Promise((resolve) => {
      ring.recv(second.fd, Buffer.alloc(1), resolve);
    });

    const closed = new Promise<void>((resolve) => {
      ring.recv(first.fd, Buffer.alloc(1), () => {
        void ring.close().then(resolve);
      });
    });
    first.peer.write('x');

    await closed;
    assert.equal(((await other) as NodeJS.ErrnoException).code, 'ECANCELED');
  });
});

describe('buffers', () => {
  it('may be transferred while a receive is in flight', async (test) => {
    const ring = ringFor(test);
    const { fd, peer } = await pairFor(test, ring);
    const bytes = new Uint8Array(1000);

    const receiving = ring.recv(fd, bytes);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    peer.write('lost');

    await assert.rejects(receiving, { code: 'EFAULT', syscall: 'recv' });
    peer.write('next');
    assert.equal(await ring.recv(fd, Buffer.alloc(10)), 4);
  });

  it('may be transferred while a send is in flight', async (test) => {
    const ring = ringFor(test, { blockBytes: 4096 });
    const { fd, peer } = await pairFor(test, ring);
    const bytes = new Uint8Array(30_000_000).fill(1);

    const sending = ring.send(fd, bytes);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    collectGarbage();
    peer.resume();

    await assert.rejects(sending, { code: 'EFAULT', syscall: 'send' });
  });

  it('may be transferred while a pipe is read, or a file written', async (test) => {
    const ring = ringFor(test, { blockBytes: 1024 });
    const pipe = pipeFor(test);
    const [read, written] = [new Uint8Array(100), new Uint8Array(100_000).fill(1)];

    const reading = ring.read(pipe, read);
    const writing = ring.write(fileFor(test, ''), written, { position: 0 });
    for (const { buffer } of [read, written]) structuredClone(buffer, { transfer: [buffer] });

    await assert.rejects(writing, { code: 'EFAULT', syscall: 'write' });
    assert.equal(await ring.write(pipe, Buffer.from('lost')), 4);
    await assert.rejects(reading, { code: 'EFAULT', syscall: 'read' });
  });

  it('may be shrunk while a receive is in flight', async (test) => {
    const ring = ringFor(test, { blockBytes: 1024 });
    const { fd, peer } = await pairFor(test, ring);
    const memory = new Resizable(4096, { maxByteLength: 8192 });
    const bytes = new Uint8Array(memory, 0, 4096);

    const receiving = ring.recv(fd, bytes);
    memory.resize(8);
    peer.write('more than eight bytes');

    await assert.rejects(receiving, { code: 'EFAULT' });
  });

  it('are collected when nothing is in flight any more, not before', async (test) => {
    const ring = ringFor(test);
    const pairs = await pairsFor(test, ring, 10);
    const buffers: WeakRef<Buffer>[] = [];
    const text = await new Promise((resolve) => {
      let received = '';
      for (const { fd } of pairs) {
        const buffer = Buffer.alloc(2000);
        buffers.push(new WeakRef(buffer));
        // Nobody else holds on to either.
        ring.recv(fd, buffer, (_error, bytes) => {
          received += buffer.toString('latin1', 0, bytes);
          if (received.length === pairs.length) resolve(received);
        });
      }
      setImmediate(() => {
        collectGarbage();
        for (const { peer } of pairs) peer.write('x');
      });
    });

    assert.equal(text, 'x'.repeat(pairs.length));
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    assert.equal(buffers.filter((buffer) => buffer.deref() !== undefined).length, 0);
  });

  it('keep their bytes whatever is collected meanwhile', async (test) => {
    const ring = ringFor(test);
    const pairs = await pairsFor(test, ring, 10);
    for (let round = 0; round < 10; round += 1) {
      const received = pairs.map(async ({ fd }) => {
        const buffer = Buffer.alloc(2000);
        return buffer.subarray(0, await ring.recv(fd, buffer));
      });
      const messages = pairs.map(() => noise(1000));
      collectGarbage();
      pairs.forEach(({ peer }, i) => peer.write(messages[i] ?? ''));
      collectGarbage();
      const bytes = await Promise.all(received);
      assert.ok(bytes.every((one, i) => messages[i]?.equals(one)));
      await Promise.all(pairs.map(({ fd }, i) => ring.send(fd, messages[i] ?? Buffer.alloc(0))));
      const echoed = await Promise.all(pairs.map(({ peer }) => readBytes(peer, 1000)));
      assert.ok(echoed.every((one, i) => messages[i]?.equals(one)));
    }
    await settled(ring);
  });
});

describe('many rings', () => {
  it('live side by side and leave nothing behind', async (test) => {
    const before = openFiles();
    for (let round = 0; round < 2; round += 1) {
      const rings = Array.from({ length: 8 }, () => openRing(sleepy));
      const lengths = await Promise.all(
        rings.map(async (ring) => {
          const { fd, peer } = await pairFor(test, ring);
          peer.write('hello');
          const length = await ring.recv(fd, Buffer.alloc(10));
          peer.destroy();
          return length;
        }),
      );
      assert.deepEqual(
        lengths,
        rings.map(() => 5),
      );
      await Promise.all(rings.map((ring) => ring.close()));
    }
    // A listener for each of the 16 rings is open until the test ends.
    assert.ok(openFiles() <= before + 16, `${openFiles()} open files, ${before} before`);
  });
});

describe('threads', () => {
  it('have rings of their own, and may be ended in the middle of anything', async () => {
    const before = openFiles();
    for (let round = 0; round < 3; round += 1) {
      const workers = [1, 2].map(() => new Worker(busy));
      await Promise.all(workers.map((worker) => once(worker, 'message')));
      await Promise.all(workers.map((worker) => worker.terminate()));
    }
    assert.ok(openFiles() <= before + 4, `${openFiles()} open files, ${before} before`);
  });

  it('may end by themselves with a ring open', async () => {
    const script = `import(${JSON.stringify(index)}).then(({ openRing }) => openRing({ quiet: true }))`;
    const [code] = (await once(new Worker(script, { eval: true }), 'exit')) as [number];
    assert.equal(code, 0);
  });
});

describe('a process', () => {
  const open = `import { openRing, openListener, createServer } from ${JSON.stringify(index)};
    const ring = openRing({ quiet: true });
    const waiting = () => ring.accept(openListener({ host: '127.0.0.1' })).next();`;

  it('ends by itself when nothing is in flight, ring or no ring', async () => {
    assert.deepEqual(await run(open), { status: 0, output: '' });
  });

  it('may exit with operations in flight', async () => {
    assert.deepEqual(await run(`${open} void waiting(); setTimeout(() => process.exit(7), 50)`), {
      status: 7,
      output: '',
    });
  });

  it('may exit in the middle of everything', async () => {
    const script = `import net from 'node:net';
      import { createServer } from ${JSON.stringify(index)};
      let seen = 0;
      const server = createServer({ ring: { quiet: true, workers: 2 } }, (socket) => {
        socket.on('error', () => undefined);
        socket.write(Buffer.alloc(${stuck.bytes}));
        socket.once('data', () => {
          seen += 1;
          if (seen === 5) process.exit(7);
        });
      });
      server.listen(0, '127.0.0.1', () => {
        for (let i = 0; i < 5; i += 1) net.connect(server.address().port, '127.0.0.1').pause().write('x');
      });`;
    assert.deepEqual(await run(script), { status: 7, output: '' });
  });

  it('may exit while threads of its own are busy', async () => {
    const script = `import { once } from 'node:events';
      import { Worker } from 'node:worker_threads';
      const workers = [1, 2].map(() => new Worker(${JSON.stringify(busy)}, { execArgv: [] }));
      await Promise.all(workers.map((worker) => once(worker, 'message')));
      process.exit(7);`;
    assert.deepEqual(await run(script), { status: 7, output: '' });
  });

  it('does not wait for a server that is unref()ed', async () => {
    const script = `${open} createServer({ ring }).listen(0, '127.0.0.1', function () { this.unref(); })`;
    assert.deepEqual(await run(script), { status: 0, output: '' });
  });

  it('gets an exception of a callback as any other, and loses no completion by it', async () => {
    const script = `${open}
      import { openSync } from 'node:fs';
      const fd = openSync('/dev/zero');
      let count = 0;
      process.on('uncaughtException', (error) => console.log(error.message));
      for (let i = 0; i < 3; i += 1) {
        ring.read(fd, Buffer.alloc(4), null, (error, bytes) => {
          count += bytes;
          if (i === 1) throw new Error('mine');
          if (count === 12) console.log('all');
        });
      }`;
    const { status, output } = await run(script);
    assert.equal(status, 0);
    assert.deepEqual(output.trim().split('\n').sort(), ['all', 'mine']);
  });
});
