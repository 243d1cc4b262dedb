import { expect, it } from '@jest/globals';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { readLine } from './order.js';

it('reads one line in pieces and leaves what follows', async () => {
  const input = new PassThrough();

  const line = readLine(input);
  for (const piece of ['{"kind"', ':"run"}', '\nrest', ' of it']) input.write(piece);
  input.end();

  expect(await line).toBe('{"kind":"run"}');
  expect(await text(input)).toBe('rest of it');
});

it('gives up when the stream ends first, or never ends a line', async () => {
  const short = new PassThrough();
  const long = new PassThrough();

  const [ended, endless] = [readLine(short), readLine(long)];
  short.end('no end');
  long.write(Buffer.alloc(1024 * 1024 + 1, 'x'));

  await expect(ended).rejects.toThrow('ended before its first line');
  await expect(endless).rejects.toThrow('no end of line within 1048576 bytes');
});
