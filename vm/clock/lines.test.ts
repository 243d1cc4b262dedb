import { expect, it } from '@jest/globals';
import { parseKallsyms, profileLines } from './lines.js';
import type { ClockWindow } from './log.js';

const symbols = parseKallsyms(
  [
    '0000000000000000 A irrelevant',
    'ffff800080100000 T tcp_sendmsg',
    'ffff800080100100 t tcp_push',
    'ffff800080100100 t $x',
    'ffff80007a000000 t fastio_run\t[fastio]',
    'ffff800082000040 D tcp_memory_allocated',
    'not a symbol',
  ].join('\n'),
);

it('names addresses by the symbol below them, modules included', () => {
  expect(symbols.nameOf(0xffff800080100000n)).toBe('tcp_sendmsg');
  expect(symbols.nameOf(0xffff80008010011cn)).toBe('tcp_push+0x1c');
  expect(symbols.nameOf(0xffff80007a000004n)).toBe('fastio_run [fastio]+0x4');
  expect(symbols.nameOf(0xffff0000deadbeefn)).toBeUndefined();
  expect(symbols.nameOf(4096n)).toBeUndefined();
});

it('sums transfers by function and names the memory that moved', () => {
  const vcpu = { lineTransfers: 50 };
  const window = {
    vcpus: [vcpu, vcpu],
    lines: [
      { physical: '0x42000040', seenAt: '0xffff800082000048', reads: 20, writes: 30 },
      { physical: '0x50000000', seenAt: '0xffff000010000010', reads: 5, writes: 0 },
      { physical: '0x60000000', seenAt: '0xffffb0001000', reads: 0, writes: 4 },
    ],
    sites: [
      { pc: '0xffff800080100010', seenAt: '0x0', reads: 10, writes: 0 },
      { pc: '0xffff800080100110', seenAt: '0x0', reads: 1, writes: 20 },
      { pc: '0xffff800080100020', seenAt: '0x0', reads: 0, writes: 5 },
      { pc: '0x400100', seenAt: '0x0', reads: 2, writes: 0 },
    ],
  } as unknown as ClockWindow;

  const { transfers, lines, functions, byVcpu } = profileLines(window, symbols);

  expect(transfers).toBe(100);
  expect(byVcpu).toEqual([50, 50]);
  expect(lines.map(({ name }) => name)).toEqual([
    'tcp_memory_allocated+0x8',
    'allocated kernel memory',
    'user memory',
  ]);
  expect(lines[0]).toMatchObject({ transfers: 50, share: 0.5 });
  expect(functions.map(({ name, transfers: each }) => [name, each])).toEqual([
    ['tcp_push', 21],
    ['tcp_sendmsg', 15],
    ['user memory', 2],
  ]);
});
