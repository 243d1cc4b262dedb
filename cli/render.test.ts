import { expect, it } from '@jest/globals';
import type { Terminal } from './render.js';
import { renderer, transferText } from './render.js';
import { durationText } from './render-run.js';

function fakeTerminal(isTTY: boolean): { readonly terminal: Terminal; readonly text: () => string } {
  let text = '';
  const write = (more: string): void => {
    text += more;
  };
  return { terminal: { write, columns: 80, isTTY, colour: false }, text: () => text };
}

it('shows size and rate of a transfer', () => {
  expect(transferText(12_345_678, 235_000_000, 1_000)).toBe('12.3 of 235.0 MB, 12.3 MB/s');
});

it('leaves out a total that is not known, and a rate too early to mean anything', () => {
  expect(transferText(500_000, 0, 10)).toBe('0.5 MB');
});

it('writes whole lines and few of them where there is no terminal', () => {
  const { terminal, text } = fakeTerminal(false);
  let now = 10_000;
  const report = renderer({ terminal, verbose: false, now: () => now });

  for (let done = 0; done <= 100; done++, now += 100) {
    report({ kind: 'transfer', name: 'packages', doneBytes: done * 1e6, totalBytes: 100e6 });
  }

  const lines = text().split('\n');
  expect(lines.length).toBeLessThan(6);
  expect(text()).not.toContain('\u001b');
  expect(lines.at(-2)).toContain('100.0 of 100.0 MB');
});

it('rewrites one line on a terminal and clears it before the next message', () => {
  const { terminal, text } = fakeTerminal(true);
  const report = renderer({ terminal, verbose: false, now: () => 1_000 });

  report({ kind: 'transfer', name: 'packages', doneBytes: 1, totalBytes: 10 });
  report({ kind: 'warning', message: 'no kvm', remedy: 'Use Linux.' });

  expect(text()).toMatch(/packages: .*\r\u001b\[Kwarning: no kvm\n\s+Use Linux\.\n$/s);
});

it('keeps build output back unless asked', () => {
  const quiet = fakeTerminal(false);
  const loud = fakeTerminal(false);
  const event = { kind: 'line', from: 'build', text: 'CC hello.o' } as const;

  renderer({ terminal: quiet.terminal, verbose: false, now: () => 0 })(event);
  renderer({ terminal: loud.terminal, verbose: true, now: () => 0 })(event);

  expect(quiet.text()).toBe('');
  expect(loud.text()).toContain('build | CC hello.o');
});

it('says durations the way people do', () => {
  expect([12, 89, 200, 4_800].map(durationText)).toEqual(['12 s', '89 s', '3 min', '1 h 20 min']);
});
