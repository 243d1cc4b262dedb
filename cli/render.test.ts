import { expect, it } from '@jest/globals';
import type { Terminal } from './render.js';
import { renderer, transferText } from './render.js';
import { durationText } from './render-run.js';

function fakeTerminal(isTTY: boolean): { readonly terminal: Terminal; readonly text: () => string } {
  let text = '';
  const write = (more: string): void => {
    text += more;
  };
  return { terminal: { write, columns: 80, rows: 24, isTTY, colour: false }, text: () => text };
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

  expect(text()).toMatch(/packages: .*\r\u001b\[Jwarning: no kvm\n\s+Use Linux\.\n$/s);
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

const row = {
  kind: 'row',
  suite: 'echo',
  server: 'fastio',
  connections: 25,
  messageBytes: 64,
  requestsPerSecond: { median: 161_260, low: 1, high: 2 },
  requestsPerSecondPerCpu: { median: 53_753, low: 1, high: 2 },
  ratioToBaseline: { median: 1.95, low: 1, high: 2 },
  p50Ns: { median: 345_000, low: 1, high: 2 },
  p99Ns: null,
  publishedRequestsPerSecond: 161_260,
  publishedRatio: 1.9453,
  note: '',
} as const;

/** What a terminal shows after the escape sequences the renderer uses. */
function screen(text: string): readonly string[] {
  const lines = [''];
  let at = 0;
  for (const part of text.split(/(\r|\n|\u001b\[\d*[AJ])/)) {
    const up = /\[(\d*)A/.exec(part)?.[1];
    if (part === '\n') lines[(at += 1)] ??= '';
    else if (part.endsWith('J')) lines.splice(at, lines.length, '');
    else if (up !== undefined) at -= Number(up);
    else if (part !== '\r') lines[at] = `${lines[at] ?? ''}${part}`;
  }
  return lines;
}

it('keeps one table on a terminal that fills, in the order of servers and workers, with messages above it', () => {
  const { terminal, text } = fakeTerminal(true);
  const report = renderer({ terminal: { ...terminal, columns: 200 }, verbose: false, now: () => 0 });
  const times = { index: 1, total: 3, elapsedSeconds: 1, remainingSeconds: 90 };

  report({ ...row, point: 'b', workers: 2 });
  report({ kind: 'warning', message: 'odd', remedy: '' });
  report({ ...row, point: 'a', workers: 1, note: 'invalid: because' });
  report({ kind: 'run', phase: 'started', point: 'fastio x3', ...times });

  const shown = screen(text());
  expect(shown).toHaveLength(5);
  expect(shown[0]).toBe('warning: odd');
  expect(shown[1]).toMatch(/^server +workers +conn +bytes +req\/s +published +x base/);
  expect(shown[2]).toMatch(
    /^fastio +1 .*161,260 +161,260 +1\.95 +1\.95 +53,753 +345 +- {2}invalid: because$/,
  );
  expect(shown[3]).toMatch(/^fastio +2 /);
  expect(shown[4]).toContain('[1/3] fastio x3: started');
});

it('writes a row for each change where there is no terminal, and the heading once', () => {
  const { terminal, text } = fakeTerminal(false);
  const report = renderer({ terminal, verbose: false, now: () => 0 });

  report({ ...row, point: 'b', workers: 2 });
  report({ ...row, point: 'b', workers: 2 });

  const lines = text().trimEnd().split('\n');
  expect(lines.map((line) => line.trim().split(/ +/)[0])).toEqual(['server', 'fastio', 'fastio']);
  expect(text()).not.toContain('\u001b');
});

it('says durations the way people do', () => {
  expect([12, 89, 200, 4_800].map(durationText)).toEqual(['12 s', '89 s', '3 min', '1 h 20 min']);
});
