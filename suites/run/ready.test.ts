import { expect, it } from '@jest/globals';
import { fixture } from '../../test/suites/runs.js';
import { loadSuite } from '../schema/load.js';
import { extendedRegex } from './ready.js';

const suite = loadSuite(fixture().options.suites[0] ?? '');

it.each([
  ['^READY port=(?<port>\\d+)', '^READY port=([0-9]+)', 1],
  ['^listening on (?<port>\\d+)$', '^listening on ([0-9]+)$', 1],
  ['(?:up|ready)\\s\\w+\\.', '(up|ready)[[:space:]][[:alnum:]_]+\\.', undefined],
  ['(?:up|\\(on) [(] (at) (?<port>\\d+)', '(up|\\(on) [(] (at) ([0-9]+)', 3],
])('says %s as grep does', async (ready, text, portGroup) => {
  expect(extendedRegex(ready, await suite, 'epoll')).toEqual({ text, portGroup });
});

it.each(['a(?=b)', '\\bup', 'a+?', '[\\d.]+', '(a)\\1'])('refuses %s by line', async (ready) => {
  const loaded = await suite;

  expect(() => extendedRegex(ready, loaded, 'epoll')).toThrow(/small\.yaml:\d+ servers\.epoll\.ready: found/);
});
