import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeFrame, frameType } from '../channel/frame.js';
import { FastioError } from '../errors.js';
import { deadline } from '../wait.js';
import { explainHang } from './failures.js';
import type { Guest } from './guest.js';
import type { Plan } from './plan.js';
import { slowness } from './slowness.js';

/** In milliseconds as on hardware. */
const silentMs = 3_000;
const answerMs = 2_000;
/** How long the kernel gets to print what a sysrq asked for. */
const sysrqMs = 300;

/**
 * Asks a guest that was silent for long whether it lives, while commands are under way. Guests with QEMU
 * arguments of their own (a clock plugin, a trace) are left alone: a question at the host's time would disturb
 * what they measure. Those are asked when a command exceeds its own deadline, as all are.
 */
export function watchForHangs(plan: Plan, guest: Guest): void {
  if (plan.spec.qemuArgs.length > 0) return;
  let asking = false;
  const timer = setInterval(() => {
    const silent = performance.now() - guest.lastSign();
    if (asking || !guest.relay.busy() || silent < silentMs * slowness(plan.accel)) return;
    asking = true;
    void diagnose(plan, guest).finally(() => (asking = false));
  }, 1_000);
  guest.died.addEventListener('abort', () => {
    clearInterval(timer);
  });
}

/** Asks the agent for a sign of life; without one the guest is declared dead, its traces in the logs. */
export async function diagnose(plan: Plan, guest: Guest): Promise<'alive' | 'dead'> {
  if (guest.died.aborted) return 'dead';
  const limitMs = answerMs * slowness(plan.accel);
  const late = new FastioError('TIMEOUT', 'no PONG', 'None is needed.');
  try {
    const signal = AbortSignal.any([guest.died, deadline(limitMs, late)]);
    await guest.relay.request((id) => encodeFrame(frameType.ping, id), signal);
    return 'alive';
  } catch (error) {
    if (error !== late) return 'dead';
  }
  await collectTraces(plan, guest).catch(() => undefined);
  guest.condemn(explainHang(limitMs, guest.evidence()));
  return 'dead';
}

/** Registers from QEMU, back traces of all CPUs and of blocked tasks from the kernel if it still can. */
async function collectTraces(plan: Plan, guest: Guest): Promise<void> {
  const signal = guest.died;
  const log = join(plan.directory, 'qemu.log');
  for (const command of ['info status', 'info registers -a']) {
    await appendFile(log, `(qemu) ${command}\n${await guest.qmp.human(command, signal)}\n`);
  }
  // On a serial console, BREAK and a letter are a sysrq.
  for (const letter of ['l', 'w']) {
    await guest.qmp.execute('chardev-send-break', { id: 'console' }, signal);
    guest.qemu.console.write(letter);
    await sleep(sysrqMs * slowness(plan.accel));
  }
}
