import { deadline, orAbort } from '../wait.js';
import { FastioError } from '../errors.js';
import { askPowerOff, type Guest } from './guest.js';
import type { Plan } from './plan.js';
import { slowness } from './slowness.js';

/** Limits of each way to end a guest, gentle first; in milliseconds as on hardware. */
const powerOffMs = 1_500;
const quitMs = 1_000;

/** Ends a guest: by its own power-off, else by QEMU's, else by force. */
export async function endGuest(plan: Plan, guest: Guest): Promise<void> {
  const scale = slowness(plan.accel);
  const late = new FastioError(
    'TIMEOUT',
    'the guest did not power off',
    'None is needed: it is ended by force.',
  );
  const ways: readonly {
    readonly limitMs: number;
    readonly ask: (signal: AbortSignal) => Promise<unknown>;
  }[] = [
    { limitMs: powerOffMs * scale, ask: (signal) => askPowerOff(guest.relay, signal) },
    { limitMs: quitMs * scale, ask: (signal) => guest.qmp.execute('quit', {}, signal) },
  ];
  for (const { limitMs, ask } of ways) {
    if (guest.died.aborted) break;
    const signal = AbortSignal.any([deadline(limitMs, late), guest.died]);
    // A refusal or a deadline only means that the next way is due.
    await ask(signal).catch(() => undefined);
    await orAbort(guest.qemu.exited, signal).catch(() => undefined);
  }
  guest.qemu.kill();
  await guest.qemu.exited;
}
