import { FastioError } from '../errors.js';

/** The numbers of vm/guest/protocol.h; frame.test.ts compares the two. */
export const protocolVersion = 1;
export const frameHeaderBytes = 9;
export const framePayloadMax = 65_536;
export const frameMagic = Buffer.from('\x8ffastio guest\r\n\0', 'latin1');
export const nonceBytes = 16;
export const stdinCreditBytes = 131_072;
export const outputCreditMax = 64 * 1024 * 1024;

export const frameType = {
  hello: 1,
  exec: 2,
  stdin: 3,
  stdinEof: 4,
  credit: 5,
  signal: 6,
  ping: 7,
  resumed: 8,
  powerOff: 9,
  welcome: 65,
  stdout: 66,
  stderr: 67,
  exit: 68,
  pong: 69,
  done: 70,
  refused: 71,
  // Between keeper and client only; the payload is JSON.
  call: 200,
  reply: 201,
  news: 202,
} as const;

export const execFlagStdin = 1;
export const exitKind = { status: 0, signalled: 1, notRun: 2 } as const;
export const streamNumber = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** JSON frames of the keeper may be longer than the agent's. */
export const jsonPayloadMax = 16 * 1024 * 1024;

export interface Frame {
  readonly type: number;
  readonly id: number;
  /** A view into the received chunk, which nobody writes to again. */
  readonly payload: Buffer;
}

export function encodeFrame(type: number, id: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame.writeUInt8(type, 4);
  frame.writeUInt32LE(id, 5);
  frame.set(payload, frameHeaderBytes);
  return frame;
}

export function encodeJson(type: number, id: number, value: unknown): Buffer {
  return encodeFrame(type, id, Buffer.from(JSON.stringify(value)));
}

/**
 * Cuts a byte stream into frames; call the result with each chunk as it arrives.
 * @throws FastioError QEMU_GONE when a length makes no sense: the stream is then of no further use.
 */
export function createFrameParser(
  onFrame: (frame: Frame) => void,
  payloadMax = framePayloadMax,
): (chunk: Buffer) => void {
  let rest: Buffer[] = [];
  let restBytes = 0;
  // How many bytes are needed before it is worth looking again.
  let wanted = frameHeaderBytes;
  return (chunk) => {
    rest.push(chunk);
    restBytes += chunk.length;
    if (restBytes < wanted) return;
    let bytes = rest.length === 1 ? chunk : Buffer.concat(rest, restBytes);
    wanted = frameHeaderBytes;
    while (bytes.length >= frameHeaderBytes) {
      const length = bytes.readUInt32LE(0);
      if (length > payloadMax) {
        throw new FastioError(
          'QEMU_GONE',
          `the guest's channel carries nonsense: a frame of ${length} bytes, at most ${payloadMax} expected`,
          'Start the guest again; read console.log for what it printed.',
        );
      }
      wanted = frameHeaderBytes + length;
      if (bytes.length < wanted) break;
      const frame = {
        type: bytes.readUInt8(4),
        id: bytes.readUInt32LE(5),
        payload: bytes.subarray(frameHeaderBytes, wanted),
      };
      bytes = bytes.subarray(wanted);
      wanted = frameHeaderBytes;
      onFrame(frame);
    }
    rest = bytes.length === 0 ? [] : [bytes];
    restBytes = bytes.length;
  };
}

export function encodeHello(nonce: Uint8Array): Buffer {
  const version = Buffer.alloc(4);
  version.writeUInt32LE(protocolVersion);
  return encodeFrame(frameType.hello, 0, Buffer.concat([frameMagic, version, nonce]));
}

/** What the agent says of the guest in WELCOME. */
export interface Welcome {
  readonly version: number;
  readonly kernelRelease: string;
  readonly machine: string;
  readonly bootId: string;
}

/** The greeting in a WELCOME frame's payload, or undefined when it answers another HELLO than `nonce`'s. */
export function decodeWelcome(payload: Buffer, nonce: Uint8Array): Welcome | undefined {
  const nonceEnd = frameMagic.length + nonceBytes;
  if (!payload.subarray(0, frameMagic.length).equals(frameMagic)) return undefined;
  if (!payload.subarray(frameMagic.length, nonceEnd).equals(nonce)) return undefined;
  const [kernelRelease = '', machine = '', bootId = ''] = payload
    .subarray(nonceEnd + 4)
    .toString()
    .split('\0');
  return { version: payload.readUInt32LE(nonceEnd), kernelRelease, machine, bootId };
}

export interface ExecRequest {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly hasStdin: boolean;
  readonly creditBytes: number;
}

/** @throws FastioError INPUT_INVALID when the command cannot be said in one frame. */
export function encodeExec(id: number, request: ExecRequest): Buffer {
  const env = Object.entries(request.env).map(([name, value]) => `${name}=${value}`);
  const strings = [request.cwd, ...request.argv, ...env];
  const header = Buffer.alloc(16);
  header.writeUInt32LE(request.hasStdin ? execFlagStdin : 0, 0);
  header.writeUInt32LE(request.creditBytes, 4);
  header.writeUInt32LE(request.creditBytes, 8);
  const wrong = wrongWithExec(request, strings);
  if (wrong !== undefined) throw invalid(wrong);
  header.writeUInt16LE(request.argv.length, 12);
  header.writeUInt16LE(env.length, 14);
  const payload = Buffer.concat([header, Buffer.from(strings.map((text) => `${text}\0`).join(''))]);
  if (payload.length > framePayloadMax) {
    throw invalid(
      `command and environment take ${payload.length} bytes, at most ${framePayloadMax} expected`,
    );
  }
  return encodeFrame(frameType.exec, id, payload);
}

function wrongWithExec(request: ExecRequest, strings: readonly string[]): string | undefined {
  const [program] = request.argv;
  if (program === undefined || program === '') return 'a command needs a program to run, found none';
  if (request.argv.length > 2_048) return `found ${request.argv.length} arguments, at most 2048 expected`;
  if (Object.keys(request.env).length > 2_000) return 'too many environment variables, at most 2000 expected';
  const badName = Object.keys(request.env).find((name) => name === '' || name.includes('='));
  if (badName !== undefined) return `'${badName}' cannot name an environment variable`;
  const withNul = strings.find((text) => text.includes('\0'));
  if (withNul !== undefined) return `a NUL byte in ${JSON.stringify(withNul.slice(0, 80))}`;
  return undefined;
}

function invalid(message: string): FastioError {
  return new FastioError('INPUT_INVALID', message, 'Pass large input over stdin, or push a file.');
}

export function encodeCredit(id: number, stream: number, bytes: number): Buffer {
  const payload = Buffer.alloc(5);
  payload.writeUInt8(stream, 0);
  payload.writeUInt32LE(bytes, 1);
  return encodeFrame(frameType.credit, id, payload);
}

export function encodeSignal(id: number, number: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(number, 0);
  return encodeFrame(frameType.signal, id, payload);
}

/** The wall clock and fresh entropy, for a guest that was resumed from a snapshot. */
export function encodeResumed(id: number, nowMs: number, seed: Uint8Array): Buffer {
  const payload = Buffer.alloc(12);
  payload.writeBigUInt64LE(BigInt(Math.floor(nowMs / 1_000)), 0);
  payload.writeUInt32LE(Math.floor((nowMs % 1_000) * 1_000_000), 8);
  return encodeFrame(frameType.resumed, id, Buffer.concat([payload, seed]));
}
