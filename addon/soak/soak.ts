import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import net from 'node:net';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createServer } from '../index.js';

/**
 * Opens and closes servers with traffic in every state, for as long as asked, and compares memory and descriptors of
 * the second half with those of the first: `npm run soak:addon`. Ends with 1 when they grew.
 */
const { values } = parseArgs({ options: { seconds: { type: 'string', default: '600' } } });
const seconds = Number(values.seconds);
if (!Number.isFinite(seconds) || seconds < 1)
  throw new RangeError(`--seconds: found ${values.seconds}, expected 1 or more`);

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
/** Connections per round; half of them are cut in the middle. */
const connections = 40;
/** Growth that allocators and the JIT may show, in bytes; a block lost per connection would be far more. */
const toleratedBytes = 24 * 2 ** 20;
const tolerated = { files: 2, threads: 2 };

interface Size {
  readonly bytes: number;
  readonly files: number;
  readonly threads: number;
}

function size(): Size {
  collectGarbage();
  collectGarbage();
  const status = readFileSync('/proc/self/status', 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    bytes: field('VmRSS') * 1024,
    files: readdirSync('/proc/self/fd').length,
    threads: field('Threads'),
  };
}

async function oneConnection(port: number, index: number): Promise<void> {
  const peer = net.connect(port, '127.0.0.1');
  peer.on('error', () => undefined);
  await once(peer, 'connect');
  const message = Buffer.alloc(1 + index * 2000, index);
  const closed = new Promise((resolve) => peer.once('close', resolve));
  if (index % 2 === 0) {
    peer.write(message);
    setImmediate(() => (index % 4 === 0 ? peer.destroy() : peer.resetAndDestroy()));
  } else {
    let received = 0;
    peer.on('data', (data: Buffer) => {
      received += data.length;
      if (data.some((byte) => byte !== index)) throw new Error('a wrong byte');
      if (received === message.length) peer.end();
    });
    peer.write(message);
  }
  await closed;
}

async function round(number: number): Promise<void> {
  const workers = number % 3;
  await using server = createServer(
    { ring: { quiet: true, workers, sqEntries: 16, cqEntries: 256 } },
    (socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    },
  );
  server.listen({ host: '127.0.0.1' });
  await once(server, 'listening');
  const port = server.address()?.port ?? 0;
  await Promise.all(Array.from({ length: connections }, (_, index) => oneConnection(port, index)));
}

const end = performance.now() + seconds * 1000;
const half = performance.now() + seconds * 500;
let rounds = 0;
let before: Size | undefined;
while (performance.now() < end || before === undefined) {
  await round(rounds);
  rounds += 1;
  if (before === undefined && performance.now() >= half) before = size();
}
const after = size();
const grown = {
  bytes: after.bytes - before.bytes,
  files: after.files - before.files,
  threads: after.threads - before.threads,
};
const leaked =
  grown.bytes > toleratedBytes || grown.files > tolerated.files || grown.threads > tolerated.threads;
process.stdout.write(
  `${leaked ? 'LEAKED' : 'nothing leaked'} in ${rounds} rounds of ${connections} connections: ` +
    `${(after.bytes / 2 ** 20).toFixed(0)} MiB resident (${(grown.bytes / 2 ** 20).toFixed(1)} more than half-way), ` +
    `${after.files} descriptors (${grown.files} more), ${after.threads} threads (${grown.threads} more)\n`,
);
process.exitCode = leaked ? 1 : 0;
