import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { projectRoot } from '../paths.js';
import {
  createFrameParser,
  encodeExec,
  encodeFrame,
  exitKind,
  frameHeaderBytes,
  frameMagic,
  framePayloadMax,
  frameType,
  nonceBytes,
  outputCreditMax,
  protocolVersion,
  stdinCreditBytes,
  type Frame,
} from './frame.js';

const header = await readFile(join(projectRoot, 'vm/guest/protocol.h'), 'utf8');

/** The value of a #define or an enumerator in protocol.h. */
function inHeader(name: string): number {
  const found = new RegExp(`(?:#define ${name}\\s+|\\b${name} = )([^/,\\n]+)`).exec(header)?.[1];
  if (found === undefined) throw new Error(`${name} is not in protocol.h`);
  return found
    .replace(/[()]/g, '')
    .split('*')
    .map(Number)
    .reduce((a, b) => a * b);
}

const request = { argv: ['true'], env: {}, cwd: '', hasStdin: false, creditBytes: 1 };

it.each([
  ['PROTOCOL_VERSION', protocolVersion],
  ['FRAME_HEADER', frameHeaderBytes],
  ['FRAME_PAYLOAD_MAX', framePayloadMax],
  ['FRAME_MAGIC_BYTES', frameMagic.length],
  ['FRAME_NONCE_BYTES', nonceBytes],
  ['STDIN_CREDIT', stdinCreditBytes],
  ['OUTPUT_CREDIT_MAX', outputCreditMax],
  ['FRAME_HELLO', frameType.hello],
  ['FRAME_EXEC', frameType.exec],
  ['FRAME_STDIN', frameType.stdin],
  ['FRAME_STDIN_EOF', frameType.stdinEof],
  ['FRAME_CREDIT', frameType.credit],
  ['FRAME_SIGNAL', frameType.signal],
  ['FRAME_PING', frameType.ping],
  ['FRAME_RESUMED', frameType.resumed],
  ['FRAME_POWEROFF', frameType.powerOff],
  ['FRAME_WELCOME', frameType.welcome],
  ['FRAME_STDOUT', frameType.stdout],
  ['FRAME_STDERR', frameType.stderr],
  ['FRAME_EXIT', frameType.exit],
  ['FRAME_PONG', frameType.pong],
  ['FRAME_DONE', frameType.done],
  ['FRAME_REFUSED', frameType.refused],
  ['EXIT_STATUS', exitKind.status],
  ['EXIT_SIGNALLED', exitKind.signalled],
  ['EXIT_NOT_RUN', exitKind.notRun],
])('agrees with protocol.h on %s', (name, here) => {
  expect(here).toBe(inHeader(name));
});

it('puts frames together again however the stream is cut', () => {
  const sent = [
    encodeFrame(66, 7, Buffer.from('abc')),
    encodeFrame(70, 0xffff_ffff),
    encodeFrame(1, 2, Buffer.alloc(300, 9)),
  ];
  const whole = Buffer.concat(sent);

  for (const size of [1, 2, 3, 8, 9, 10, 13, 100, whole.length]) {
    const seen: Frame[] = [];
    const parse = createFrameParser((frame) => seen.push(frame));
    for (let at = 0; at < whole.length; at += size) parse(whole.subarray(at, at + size));

    expect(seen.map(({ type, id, payload }) => encodeFrame(type, id, payload))).toEqual(sent);
  }
});

it('refuses a length that makes no sense instead of waiting for it', () => {
  const parse = createFrameParser(() => undefined);
  const nonsense = Buffer.alloc(frameHeaderBytes);
  nonsense.writeUInt32LE(framePayloadMax + 1);

  expect(() => {
    parse(nonsense);
  }).toThrow(`a frame of ${framePayloadMax + 1} bytes, at most ${framePayloadMax} expected`);
});

it.each([
  ['no program', { ...request, argv: [] }, 'needs a program'],
  ['an empty program', { ...request, argv: [''] }, 'needs a program'],
  ['a NUL byte', { ...request, argv: ['echo', 'a\0b'] }, 'NUL byte'],
  ['a name with =', { ...request, env: { 'a=b': 'c' } }, "'a=b' cannot name"],
  ['too many arguments', { ...request, argv: Array.from({ length: 3000 }, () => 'x') }, 'at most 2048'],
  [
    'a command that is too long',
    { ...request, argv: ['echo', 'x'.repeat(70_000)] },
    'at most 65536 expected',
  ],
])('refuses a command with %s before anything is sent', (_, bad, message) => {
  expect(() => encodeExec(1, bad)).toThrow(message);
});
