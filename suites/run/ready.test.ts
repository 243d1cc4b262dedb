import { expect, it } from '@jest/globals';
import { fixture } from '../../test/suites/runs.js';
import { loadSuite } from '../schema/load.js';
import { extendedRegex } from './ready.js';

const suite = loadSuite(fixture().options.suites[0] ?? '');

it.each([
  ['^READY port=(?<port>\\d+)', '^READY port=([0-9]+)'],
  ['^listening on (?<port>\\d+)$', '^listening on ([0-9]+)$'],
  ['(?:up|ready)\\s\\w+\\.', '(up|ready)[[:space:]][[:alnum:]_]+\\.'],
])('says %s as grep does', async (ready, grep) => {
  expect(extendedRegex(ready, await suite, 'epoll')).toBe(grep);
});

it.each(['a(?=b)', '\\bup', 'a+?', '[\\d.]+', '(a)\\1'])('refuses %s by line', async (ready) => {
  const loaded = await suite;

  expect(() => extendedRegex(ready, loaded, 'epoll')).toThrow(/small\.yaml:\d+ servers\.epoll\.ready: found/);
});
