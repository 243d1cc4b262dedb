import { expect, it } from '@jest/globals';
import { parseKallsyms } from './lines.js';
import type { ClockWindow } from './log.js';
import { describeProfile, profileCode } from './profile.js';

const symbols = parseKallsyms(
  ['ffff800080100000 T tcp_sendmsg', 'ffff800080100100 t tcp_push', 'ffff80007a000000 t run\t[fastio]'].join(
    '\n',
  ),
);
const idle = { executedNs: 0, spunNs: 0, lineNs: 0, lineTransfers: 0 };
const window = {
  ...{ startNs: 1_000, endNs: 11_000 },
  vcpus: [
    idle,
    { executedNs: 8_000, spunNs: 2_000, lineNs: 600, lineTransfers: 10 },
    { executedNs: 3_000, spunNs: 0, lineNs: 0, lineTransfers: 0 },
  ],
  lines: [{ physical: '0x42000040', seenAt: '0xffff000010000010', reads: 4, writes: 6 }],
  sites: [{ pc: '0xffff800080100010', seenAt: '0x0', reads: 4, writes: 6 }],
  profile: [
    { vcpu: 1, pc: '0xffff800080100000', ns: 1_000, transfers: 0 },
    { vcpu: 1, pc: '0xffff800080100010', ns: 400, transfers: 10 },
    { vcpu: 1, pc: '0xffff800080100104', ns: 5_000, transfers: 0 },
    { vcpu: 1, pc: '0x401000', ns: 1_000, transfers: 0 },
    { vcpu: 2, pc: '0xffff80007a000008', ns: 3_000, transfers: 0 },
  ],
} as unknown as ClockWindow;

it('sums time by function for the vCPUs asked for, line transfers included', () => {
  const code = profileCode(window, symbols, [1]);

  expect(code).toMatchObject({ executedNs: 8_000, lineNs: 600, transfers: 10, spunNs: 2_000 });
  expect(code.functions).toEqual([
    { name: 'tcp_push', ns: 5_000, transfers: 0 },
    { name: 'tcp_sendmsg', ns: 2_000, transfers: 10 },
    { name: 'user code', ns: 1_000, transfers: 0 },
  ]);
  expect(profileCode(window, symbols, [2]).functions.map(({ name }) => name)).toEqual(['run [fastio]']);
});

it('accounts for every ns that was executed', () => {
  const { functions, executedNs } = profileCode(window, symbols, [1, 2]);

  expect(functions.reduce((sum, { ns }) => sum + ns, 0)).toBe(executedNs);
});

it('prints it per request, with the lines that moved', () => {
  const text = describeProfile(window, symbols, {
    groups: [
      { title: 'application', vcpus: [1] },
      { title: 'workers', vcpus: [2] },
    ],
    requests: 10,
  });

  expect(text.split('\n')).toEqual([
    'application: vCPU 1; 1.00 CPUs used, 200 ns per request polled',
    '  ns/request   share  lines/request  function',
    '         800   100 %           1.00  (all)',
    '         500  62.5 %           0.00  tcp_push',
    '         200  25.0 %           1.00  tcp_sendmsg',
    '         100  12.5 %           0.00  user code',
    '',
    'workers: vCPU 2; 0.30 CPUs used, 0 ns per request polled',
    '  ns/request    share  lines/request  function',
    '         300    100 %           0.00  (all)',
    '         300  100.0 %           0.00  run [fastio]',
    '',
    'lines of 64 bytes that moved between CPUs: 1.0 per request, all vCPUs',
    '  lines/request  by loads  by stores     address  memory',
    '          1.000     0.400      0.600  0x42000040  allocated kernel memory',
    '',
    'the code they moved for',
    '  lines/request  by loads  by stores             address  function',
    '          1.000     0.400      0.600  0xffff800080100010  tcp_sendmsg',
    '',
  ]);
});

it('leaves the functions out when the window was measured without them', () => {
  const { profile, ...plain } = window;

  expect(profile).toBeDefined();
  expect(profileCode(plain, symbols, [1]).functions).toEqual([]);
});
