import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { FastioError, errnoOf } from '../errors.js';
import type { Report } from '../progress.js';
import type { Accel, AccelChoice, Arch } from '../vm.js';

/** The answer to whether one accelerator works here for one guest architecture. */
export interface AccelProbe {
  readonly accel: Accel;
  readonly usable: boolean;
  /** One clause for people. */
  readonly reason: string;
}

/** What decides whether an accelerator is worth a try; a parameter so that tests can be other machines. */
export interface HostFacts {
  readonly platform: NodeJS.Platform;
  readonly arch: Arch;
  /** The KVM device: there and usable, there but not for us, or absent. */
  readonly kvm: 'open' | 'forbidden' | 'absent';
}

export async function hostFacts(arch: Arch, kvmDevice = '/dev/kvm'): Promise<HostFacts> {
  const kvm = await access(kvmDevice, constants.R_OK | constants.W_OK).then(
    () => 'open' as const,
    (error: unknown) => (errnoOf(error) === 'EACCES' ? ('forbidden' as const) : ('absent' as const)),
  );
  return { platform: process.platform, arch, kvm };
}

/** Boots a guest's kernel with an accelerator up to user space; the reason when it does not get there. */
export type Trial = (accel: Accel) => Promise<{ readonly usable: boolean; readonly reason: string }>;

/**
 * Every accelerator there is for a guest of `guest`, best first: hardware where this machine has it, then
 * emulation. One that is not ruled out at once is tried by booting: a device that opens proves nothing.
 */
export async function probeAll(guest: Arch, host: HostFacts, trial: Trial): Promise<readonly AccelProbe[]> {
  const hardware: Accel = host.platform === 'darwin' ? 'hvf' : 'kvm';
  const hopeless = ruleOut(hardware, guest, host);
  return [
    hopeless === undefined
      ? { accel: hardware, ...(await trial(hardware)) }
      : { accel: hardware, usable: false, reason: hopeless },
    { accel: 'tcg', ...(await trial('tcg')) },
  ];
}

/** Why an accelerator cannot work, without a try; undefined when it may. */
export function ruleOut(accel: Accel, guest: Arch, host: HostFacts): string | undefined {
  if (accel === 'tcg') return undefined;
  if (accel === 'hvf' && host.platform !== 'darwin') return 'HVF exists on macOS only';
  if (accel === 'kvm' && host.platform !== 'linux') return 'KVM exists on Linux only';
  if (guest !== host.arch) return `a ${host.arch} processor cannot run ${guest} guests itself`;
  if (accel === 'kvm' && host.kvm === 'absent')
    return 'there is no /dev/kvm: virtualization is off or not passed on';
  if (accel === 'kvm' && host.kvm === 'forbidden') {
    return 'no permission to open /dev/kvm: add yourself to the group that owns it';
  }
  return undefined;
}

export interface Choice {
  readonly accel: Accel;
  readonly reason: string;
}

/**
 * Chooses what a guest runs on, and says so; falling back from hardware is a warning.
 * @param choice what the user asked for; with `requireAccel`, nothing else will do.
 * @throws FastioError ACCEL_UNAVAILABLE when that cannot be had, with the reason.
 */
export async function chooseAccel(
  guest: Arch,
  host: HostFacts,
  { choice, requireAccel, report }: { choice: AccelChoice; requireAccel: boolean; report: Report },
  trial: Trial,
): Promise<Choice> {
  if (choice === 'tcg') {
    return { accel: 'tcg', reason: 'it was asked for' };
  }
  const wanted: Accel = choice !== 'auto' ? choice : host.platform === 'darwin' ? 'hvf' : 'kvm';
  const hopeless = ruleOut(wanted, guest, host);
  const tried = hopeless === undefined ? await trial(wanted) : { usable: false, reason: hopeless };
  if (tried.usable) {
    report({ kind: 'stage', name: 'accelerator', detail: `accel=${wanted} because ${tried.reason}` });
    return { accel: wanted, reason: tried.reason };
  }
  if (requireAccel) {
    throw new FastioError(
      'ACCEL_UNAVAILABLE',
      `${wanted} is required and cannot be used: ${tried.reason}`,
      'Leave --require-accel out to run by emulation, or use a machine that has it.',
    );
  }
  report({
    kind: 'warning',
    message: `accel=tcg because ${wanted} cannot be used: ${tried.reason}`,
    remedy:
      'Emulated rates say nothing of hardware; ratios and the virtual clock do. --require-accel refuses instead.',
  });
  return { accel: 'tcg', reason: `${wanted} cannot be used: ${tried.reason}` };
}

/** What an answer about KVM depends on besides QEMU: the device and our rights to it. */
export async function kvmFingerprint(kvmDevice = '/dev/kvm'): Promise<string> {
  try {
    const { ino, mode, uid, gid, rdev, ctimeMs } = await stat(kvmDevice);
    return [ino, mode, uid, gid, rdev, ctimeMs].join(':');
  } catch {
    return 'absent';
  }
}
