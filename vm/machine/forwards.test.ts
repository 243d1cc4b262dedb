import { expect, it } from '@jest/globals';
import { parseForwards, resolveForwards } from './forwards.js';
import type { Qmp } from './qmp.js';

/** As QEMU 10.0 prints it. */
const usernet = `Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  14       127.0.0.1 40211       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  13       127.0.0.1  7000       10.0.2.15    80     0     0
  TCP[ESTABLISHED]   15       127.0.0.1  7000       10.0.2.15    80     0     0
`;
const signal = new AbortController().signal;
const qmp: Qmp = { execute: () => Promise.resolve(), human: () => Promise.resolve(usernet) };

it('reads the listening ports, and not the connections', () => {
  expect(parseForwards(usernet)).toEqual([
    { hostPort: 40211, guestPort: 22 },
    { hostPort: 7000, guestPort: 80 },
  ]);
});

it('fills in the port the system chose, in the order asked for', async () => {
  const wanted = [
    { hostPort: 7000, guestPort: 80 },
    { hostPort: 0, guestPort: 22 },
  ];

  expect(await resolveForwards(qmp, wanted, signal)).toEqual([
    { hostPort: 7000, guestPort: 80 },
    { hostPort: 40211, guestPort: 22 },
  ]);
});

it('says so when a forward is not there', async () => {
  const wanted = [{ hostPort: 7001, guestPort: 80 }];

  await expect(resolveForwards(qmp, wanted, signal)).rejects.toMatchObject({ code: 'PORT_TAKEN' });
});
