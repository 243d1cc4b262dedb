import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { errnos } from '../abi.js';
import { index, run } from './rig.js';

/** Loaded before the C library; see refuse.c. Only the user-space back end calls what it replaces. */
const refuse = process.env['FASTIO_REFUSE_LIBRARY'];
if (refuse === undefined)
  throw new Error('FASTIO_REFUSE_LIBRARY: found nothing, expected the path of refuse.so');
const { ECONNABORTED, EMFILE, EPROTO } = errnos;
const EPERM = 1;

/** A server, in a process of its own, of which the first accepts fail. */
function refusing(count: number, errno: number, script: string): ReturnType<typeof run> {
  const preloaded = [process.env['LD_PRELOAD'], refuse].filter((path) => path !== undefined).join(':');
  const begin = `import { createServer } from ${JSON.stringify(index)};
    import net from 'node:net';
    const server = createServer({ ring: { quiet: true } }, (socket) => socket.pipe(socket));`;
  return run(`${begin}\n${script}`, { LD_PRELOAD: preloaded, FASTIO_REFUSE: `${count}:${errno}` });
}

const echoOnce = `server.listen(0, '127.0.0.1', () => {
  const peer = net.connect(server.address().port, '127.0.0.1');
  peer.end('hello');
  peer.on('data', (data) => console.log(String(data)));
  peer.on('close', () => server.close());
});`;

describe('a server some of whose accepts fail', () => {
  for (const [name, errno] of Object.entries({ ECONNABORTED, EPROTO, EMFILE })) {
    it(`accepts what comes after ${name}`, async () => {
      assert.deepEqual(await refusing(3, errno, echoOnce), { status: 0, output: 'hello\n' });
    });

    it(`does not keep the process alive after ${name} when it was unref()ed`, async () => {
      // Until one was refused: before that, there is nothing to go wrong.
      const script = `const completed = () => server.ring.stats().reduce((sum, queue) => sum + queue.completed, 0);
        server.listen(0, '127.0.0.1', () => {
          server.unref();
          const before = completed();
          const timer = setInterval(() => completed() > before && clearInterval(timer), 5);
        });`;
      assert.deepEqual(await refusing(1000, errno, script), { status: 0, output: '' });
    });

    it(`keeps it alive again after ${name} once it was ref()ed`, async () => {
      const script = `server.once('listening', () => setImmediate(() => server.unref().ref()));
        ${echoOnce.replace('peer.end', 'peer.unref().end')}`;
      assert.deepEqual(await refusing(3, errno, script), { status: 0, output: 'hello\n' });
    });
  }

  it('ends with an error event after any other', async () => {
    const script = `server.on('error', ({ code, syscall }) => console.log(code, syscall, server.listening));
      server.listen(0, '127.0.0.1');`;
    assert.deepEqual(await refusing(1, EPERM, script), { status: 0, output: 'EPERM accept false\n' });
  });
});
