import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openChannel } from '../channel/commands.js';
import { encodeFrame, encodeResumed, frameType, type Welcome } from '../channel/frame.js';
import { greetAgent } from '../channel/handshake.js';
import { createRelay, type Relay } from '../channel/relay.js';
import { createScanner, type ConsoleScanner } from '../console/scan.js';
import { FastioError } from '../errors.js';
import type { KernelReport, PortForward, VmInfo } from '../vm.js';
import { deadline } from '../wait.js';
import { openBoundedLog } from './bounded-log.js';
import {
  explainExit,
  explainMessages,
  explainNoAgent,
  explainNoOutput,
  explainNoStart,
  explainSilence,
  type Evidence,
} from './failures.js';
import { resolveForwards } from './forwards.js';
import { failureDirectory } from './logs.js';
import type { Plan } from './plan.js';
import { startQemu, type QemuExit, type QemuProcess } from './qemu-process.js';
import { openQmp, type Qmp } from './qmp.js';
import { slowness } from './slowness.js';
import { loadSnapshot, saveSnapshot } from './snapshot.js';
import { warmUp } from './warm-up.js';

/** Waits of a guest's start, in milliseconds as on hardware. */
const firstOutputMs = 5_000;
const silentBootMs = 10_000;
const agentMs = 30_000;
/** A resumed guest has only to answer; one that does not has a bad template. */
const resumeMs = 3_000;
/** After a panic the guest reboots at once, which ends QEMU; if it cannot even do that, this ends it. */
const panicMs = 500;
/** How long QEMU may take from closing a connection to its exit. */
const exitMs = 2_000;

/** A guest from the keeper's side. */
export interface Guest {
  readonly info: VmInfo;
  readonly qemu: QemuProcess;
  readonly qmp: Qmp;
  readonly relay: Relay;
  readonly scanner: ConsoleScanner;
  /** Aborts with the reason when the guest can no longer answer. */
  readonly died: AbortSignal;
  /** Declares it dead: QEMU is killed. */
  condemn(reason: Error): void;
  /** When the guest was last heard of, by console or channel; `performance.now()`. */
  lastSign(): number;
  evidence(): Evidence;
}

export type Console = Pick<Guest, 'qemu' | 'scanner' | 'died' | 'condemn' | 'lastSign' | 'evidence'> & {
  readonly sign: () => void;
  /** Resolves when QEMU has ended and `died` says why. */
  readonly explained: Promise<void>;
  /** True until the agent has answered. */
  readonly starting: { value: boolean };
};

/** Boots or resumes what the plan says, up to the agent's answer. On failure QEMU is gone. */
export async function startGuest(
  plan: Plan,
  signal: AbortSignal,
  onQemu: (qemu: QemuProcess) => void,
): Promise<Guest> {
  const machine = await startConsole(plan);
  onQemu(machine.qemu);
  try {
    const either = AbortSignal.any([signal, machine.died]);
    const qmp = await openQmp(machine.qemu.qmp, either);
    if (plan.resumeFrom !== undefined) await loadSnapshot(qmp, plan.resumeFrom, either);
    const welcome = await awaitAgent(plan, machine, either);
    const onBroken = (reason: Error): void => {
      // QEMU closes the channel on its way out, and how it went explains more; its `exited` condemns first.
      const late = setTimeout(machine.condemn, exitMs, reason);
      void machine.qemu.exited.then(() => {
        clearTimeout(late);
      });
    };
    const relay = createRelay(machine.qemu.agent, { onBroken, onSign: machine.sign });
    if (plan.resumeFrom !== undefined) {
      const limitMs = resumeMs * slowness(plan.accel);
      const late = explainNoAgent(limitMs, machine.evidence());
      const soon = AbortSignal.any([either, deadline(limitMs, late)]);
      await relay.request((id) => encodeResumed(id, Date.now(), randomBytes(64)), soon);
    }
    const forwards = await resolveForwards(qmp, plan.spec.forwards, either);
    machine.starting.value = false;
    return { ...machine, qmp, relay, info: describe(plan, welcome, machine.qemu.pid, forwards) };
  } catch (error) {
    // A connection that breaks is how QEMU's end is noticed first; why it ended, its exit and its messages say.
    const gone = error instanceof FastioError && error.code === 'QEMU_GONE';
    if (gone) await Promise.race([machine.qemu.exited, sleep(exitMs, undefined, { ref: false })]);
    machine.qemu.kill();
    await machine.explained;
    throw gone ? machine.died.reason : error;
  }
}

/** Boots the plan's guest, saves it as a template and ends it; returns what its kernel complained of. */
export async function saveTemplate(
  plan: Plan,
  path: string,
  signal: AbortSignal,
  onQemu: (qemu: QemuProcess) => void,
): Promise<readonly KernelReport[]> {
  const machine = await startConsole(plan);
  onQemu(machine.qemu);
  try {
    const either = AbortSignal.any([signal, machine.died]);
    const qmp = await openQmp(machine.qemu.qmp, either);
    await awaitAgent(plan, machine, either);
    machine.starting.value = false;
    const closedReason = (): Error =>
      machine.died.aborted ? (machine.died.reason as Error) : new Error('the channel closed');
    await warmUp(openChannel(machine.qemu.agent, { closedReason }), either);
    await saveSnapshot(qmp, path, either);
    return machine.scanner.trouble(0).reports;
  } finally {
    machine.qemu.kill();
    await machine.qemu.exited;
  }
}

async function startConsole(plan: Plan): Promise<Console> {
  const qemu = await startQemu(plan.qemu, join(plan.directory, 'qemu.log'), () => {
    // After some failures QEMU goes on running with a guest that never will.
    const known = explainMessages(qemu.messages(), evidence());
    if (known !== undefined) condemn(known);
  });
  const log = openBoundedLog(join(plan.directory, 'console.log'));
  const death = new AbortController();
  const starting = { value: true };
  let lastSign = performance.now();
  const evidence = (): Evidence => ({
    directory: failureDirectory(plan.name),
    lastLines: scanner.lastLines(200),
    reports: scanner.trouble(0).reports,
    messages: qemu.messages(),
  });
  const condemn = (reason: Error): void => {
    if (!death.signal.aborted) death.abort(reason);
    qemu.kill();
  };
  const onExit = (exit: QemuExit): void => {
    const silent = starting.value && scanner.lastLines(1).length === 0;
    condemn(silent ? explainNoStart(exit, evidence()) : explainExit(exit, evidence()));
  };
  const scanner = createScanner({
    earlier: plan.earlierReports ?? [],
    onReport: ({ severity }) => {
      if (severity !== 'panic') return;
      const late = setTimeout(
        () => {
          onExit({ status: 0, signal: null });
        },
        panicMs * slowness(plan.accel),
      );
      void qemu.exited.then(() => {
        clearTimeout(late);
      });
    },
  });
  qemu.console.on('data', (chunk: Buffer) => {
    lastSign = performance.now();
    log.write(chunk);
    scanner.feed(chunk);
  });
  const explained = qemu.exited.then(async (exit) => {
    await log.end();
    onExit(exit);
  });
  return {
    qemu,
    scanner,
    starting,
    evidence,
    condemn,
    explained,
    died: death.signal,
    lastSign: () => lastSign,
    sign: () => (lastSign = performance.now()),
  };
}

/** Waits for the agent, and gives up for the reason that fits what was seen on the console. */
async function awaitAgent(plan: Plan, machine: Console, signal: AbortSignal): Promise<Welcome> {
  const scale = slowness(plan.accel) * plan.patience;
  const boots = plan.resumeFrom === undefined;
  const limitMs = (boots ? agentMs : resumeMs) * scale;
  const start = performance.now();
  const watch = setInterval(() => {
    const silentMs = performance.now() - machine.lastSign();
    const elapsedMs = performance.now() - start;
    const spoke = machine.scanner.lastLines(1).length > 0;
    if (elapsedMs > limitMs) machine.condemn(explainNoAgent(elapsedMs, machine.evidence()));
    else if (boots && !spoke && silentMs > firstOutputMs * scale) {
      machine.condemn(explainNoOutput(silentMs, machine.evidence()));
    } else if (boots && spoke && silentMs > silentBootMs * scale) {
      machine.condemn(explainSilence(silentMs, machine.evidence()));
    }
  }, 200);
  try {
    return await greetAgent(machine.qemu.agent, signal);
  } finally {
    clearInterval(watch);
  }
}

function describe(plan: Plan, welcome: Welcome, qemuPid: number, forwards: readonly PortForward[]): VmInfo {
  return {
    arch: plan.spec.arch,
    kernelRelease: welcome.kernelRelease,
    accel: plan.accel,
    accelReason: plan.accelReason,
    cpus: plan.spec.cpus,
    memoryMiB: plan.spec.memoryMiB,
    qemuVersion: plan.qemuVersion,
    qemuPid,
    startedFrom: plan.resumeFrom === undefined ? 'boot' : 'template',
    forwards,
    directory: plan.directory,
  };
}

/** Says POWEROFF to the agent; resolves when the agent has heard it. */
export async function askPowerOff(relay: Relay, signal: AbortSignal): Promise<void> {
  await relay.request((id) => encodeFrame(frameType.powerOff, id), signal);
}
