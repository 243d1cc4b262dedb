import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { FastioError } from '../errors.js';
import {
  decodeWelcome,
  encodeHello,
  frameHeaderBytes,
  frameMagic,
  framePayloadMax,
  frameType,
  nonceBytes,
  protocolVersion,
  type Welcome,
} from './frame.js';

/** How often HELLO is said again: the first may come before the guest has opened its end. */
const repeatMs = 500;

/**
 * Greets the agent and drops everything that is not its answer, such as frames meant for an earlier connection.
 * Frames that follow the answer stay in the stream.
 * @throws the signal's reason, or FastioError HOST_UNSUPPORTED when the agent speaks another version.
 */
export async function greetAgent(stream: Duplex, signal: AbortSignal): Promise<Welcome> {
  const nonce = randomBytes(nonceBytes);
  const hello = encodeHello(nonce);
  const answer = Buffer.concat([frameMagic, nonce]);
  let received = Buffer.alloc(0);
  signal.throwIfAborted();
  const welcome = await new Promise<Welcome>((resolve, reject) => {
    const timer = setInterval(() => stream.write(hello), repeatMs);
    const stop = (): void => {
      clearInterval(timer);
      stream.off('data', onData).pause();
      signal.removeEventListener('abort', onAbort);
    };
    const onAbort = (): void => {
      stop();
      reject(signal.reason as Error);
    };
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const at = received.indexOf(answer);
      const start = at - frameHeaderBytes;
      const length = at < frameHeaderBytes ? 0 : received.readUInt32LE(start);
      const end = at + length;
      if (at < frameHeaderBytes || received.length < end) {
        // Keep what may be the beginning of an answer, and no more.
        if (at < 0) received = received.subarray(-(frameHeaderBytes + framePayloadMax));
        return;
      }
      const found = decodeWelcome(received.subarray(at, end), nonce);
      if (received.readUInt8(start + 4) !== frameType.welcome || found === undefined) return;
      stop();
      const rest = received.subarray(end);
      if (rest.length > 0) stream.unshift(rest);
      resolve(found);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    stream.on('data', onData);
    stream.write(hello);
  });
  if (welcome.version === protocolVersion) return welcome;
  throw new FastioError(
    'HOST_UNSUPPORTED',
    `the guest's agent speaks version ${welcome.version} of the protocol, expected ${protocolVersion}`,
    'Rebuild the guest image with `fastio image build`.',
  );
}
