import { expect, it } from '@jest/globals';
import { busyNs, parseClockLog, virtualPerWall, withoutHost } from './log.js';

const vcpu = {
  ...{ executedNs: 700, spunNs: 200, lineNs: 60, lineTransfers: 1, userInstructions: 500 },
  ...{ kernelInstructions: 140, systemCalls: 2, exceptionReturns: 3, atomics: 4, ipis: 0, sleeps: 1 },
};
const span = { startNs: 1_000, endNs: 51_000, quantumNs: 20, rounds: 2_500, slices: 2_600, vcpus: [vcpu] };
const host = { wallSeconds: 0.5, cpuSeconds: 0.4, idleMoves: 0 };
const lines = [
  { kind: 'start', qemu: '10.0.13 Debian', vcpus: 1, arguments: 'coarse=2000' },
  {
    ...{ kind: 'window', ...span, index: 1 },
    lines: [{ physical: '0x40000000', seenAt: '0xffff0000', reads: 1, writes: 0 }],
    sites: [{ pc: '0xffff800080000000', seenAt: '0xffff0000', reads: 1, writes: 0 }],
    ...{ uncountedTransfers: 0, host },
  },
  { kind: 'end', ...span, host },
];
const text = (parts: readonly unknown[]): string => parts.map((part) => `${JSON.stringify(part)}\n`).join('');

it('reads what the plugin wrote', () => {
  const log = parseClockLog('f', text(lines));

  expect(log.start.qemu).toBe('10.0.13 Debian');
  expect(log.windows).toHaveLength(1);
  expect(log.end?.vcpus.map(busyNs)).toEqual([900]);
  expect(log.windows.map((window) => virtualPerWall(window))).toEqual([0.0001]);
});

it('leaves out a line that is still being written', () => {
  const log = parseClockLog('f', text(lines).slice(0, -20));

  expect(log.windows).toHaveLength(1);
  expect(log.end).toBeUndefined();
});

it('is the same for equal runs once the host is left out', () => {
  const slower = lines.map((line) => ({
    ...line,
    ...('host' in line ? { host: { ...host, wallSeconds: 9 } } : {}),
  }));

  const [one, other] = [lines, slower].map((parts) =>
    JSON.stringify(withoutHost(parseClockLog('f', text(parts)))),
  );

  expect(other).toBe(one);
  expect(one).not.toContain('wallSeconds');
});

it.each([
  ['nothing', '', /f: the virtual clock wrote nothing/],
  ['no JSON', `${text(lines.slice(0, 1))}oops\n`, /^f:2 found text that is not JSON/],
  ['a count below zero', text([lines[0], { ...lines[1], rounds: -1 }]), /^f:2 rounds: /],
  ['an unknown key', text([{ ...lines[0], colour: 'red' }]), /^f:1 /],
])('names the line that holds %s', (_, content, message) => {
  expect(() => parseClockLog('f', content)).toThrow(message);
});
