import { FastioError } from '../errors.js';
import type { PortForward } from '../vm.js';
import type { Qmp } from './qmp.js';

/** The forwards with the ports that QEMU really listens on: a 0 was the system's choice. */
export async function resolveForwards(
  qmp: Qmp,
  wanted: readonly PortForward[],
  signal: AbortSignal,
): Promise<readonly PortForward[]> {
  if (wanted.length === 0) return [];
  const listening = parseForwards(await qmp.human('info usernet', signal));
  return wanted.map(({ hostPort, guestPort }) => {
    const found = listening.findIndex(
      (each) => each.guestPort === guestPort && (hostPort === 0 || each.hostPort === hostPort),
    );
    const [forward] = found < 0 ? [] : listening.splice(found, 1);
    if (forward !== undefined) return forward;
    throw new FastioError(
      'PORT_TAKEN',
      `no port of the host leads to port ${guestPort} of the guest`,
      'Choose another port, or 0 to let the system choose.',
    );
  });
}

/** Listening TCP forwards in the words of `info usernet`: protocol[HOST_FORWARD] fd address port address port. */
export function parseForwards(text: string): PortForward[] {
  const rule = /^\s*TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)/gm;
  return [...text.matchAll(rule)].map(([, hostPort, guestPort]) => ({
    hostPort: Number(hostPort),
    guestPort: Number(guestPort),
  }));
}
