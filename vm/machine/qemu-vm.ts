import { guestImage, holdImage } from '../image/image.js';
import { hostArchitecture } from '../image/tools.js';
import { ownerToken, parseToken } from '../image/owner.js';
import type { Work } from '../image/work.js';
import type { Report } from '../progress.js';
import type { Arch, BootVm, KernelSeries, Vm, VmInfo, VmSpec } from '../vm.js';
import { chooseAccel, hostFacts, probeAll, ruleOut, type AccelProbe } from './accel.js';
import { bootTrial } from './accel-trial.js';
import {
  claimDirectory,
  checkName,
  guestDirectory,
  liveGuests,
  readState,
  sweepDirectories,
} from './directory.js';
import { connectKeeper, notRunning, startKeeper } from './keeper-link.js';
import { launch } from './launch.js';
import { qemuProgram } from './program.js';
import { checkSpec } from './spec.js';
import { createVm, stopGuest } from './vm-client.js';

export type { AccelProbe } from './accel.js';
export { kernelReportToError } from './failures.js';

/** What `status` shows of one guest. */
export interface GuestStatus {
  readonly name: string;
  /** `dead`: the guest panicked, hung or lost its QEMU; its keeper still holds the logs until `stopVm`. */
  readonly state: 'starting' | 'running' | 'dead';
  /** Absent while starting. */
  readonly info?: VmInfo;
  readonly spec: VmSpec;
  /** True once the guest outlives the process that booted it. */
  readonly detached: boolean;
  readonly keeperPid: number;
  /** Since the keeper was started. */
  readonly upMs: number;
  /** Why a dead guest died. */
  readonly died?: string;
}

/**
 * Boots a guest, or resumes it from its template snapshot. Nothing is left behind when it fails, when the signal
 * aborts, or when this process is killed.
 * @throws FastioError, see vm/errors.ts.
 */
export const bootQemu: BootVm = async (spec, options) => {
  checkName(options.name);
  checkSpec(spec);
  await sweepStale();
  const work: Work = { report: options.report, signal: options.signal };
  const [image, qemu] = await Promise.all([guestImage(spec, work), qemuProgram(spec.qemu, spec.arch, work)]);
  const choice = await chooseAccel(
    spec.arch,
    await hostFacts(hostArchitecture()),
    { choice: options.accel, requireAccel: options.requireAccel, report: options.report },
    bootTrial({ qemu, image, spec, signal: options.signal }),
  );
  const directory = await claimDirectory({
    name: options.name,
    spec,
    state: 'starting',
    detached: false,
    keeper: ownerToken(),
    startedAtMs: Date.now(),
  });
  const keeper = startKeeper(directory);
  try {
    const setting = { spec, options, image, qemu, choice, directory, keeper };
    const letGo = await holdImage(image.id, keeper.pid);
    const info = await launch(setting).catch(async (error: unknown) => {
      await letGo();
      throw error;
    });
    if (options.detach !== true) return createVm(options.name, info, keeper, { dispose: () => keeper.end() });
    await keeper.channel.call('release', null, options.signal);
    return createVm(options.name, info, keeper, { dispose: () => Promise.resolve() });
  } catch (error) {
    await keeper.end();
    throw error;
  }
};

/**
 * Attaches to a running guest. Disposing the result only detaches; `stopVm` powers the guest off.
 * @throws FastioError GUEST_NOT_RUNNING.
 */
export async function connectVm(
  name: string,
  { signal = AbortSignal.timeout(60_000) }: { readonly signal?: AbortSignal } = {},
): Promise<Vm> {
  const link = await connectKeeper(guestDirectory(name), name, signal);
  const info = (await link.channel.call('info', null, signal)) as VmInfo;
  return createVm(name, info, link, { dispose: () => Promise.resolve() });
}

/** Every guest of this user, by name. */
export async function listVms(): Promise<readonly GuestStatus[]> {
  return (await liveGuests()).map(({ keeper, startedAtMs, ...rest }) => ({
    name: rest.name,
    state: rest.state,
    spec: rest.spec,
    detached: rest.detached,
    keeperPid: parseToken(keeper)?.pid ?? 0,
    upMs: Math.max(0, Date.now() - startedAtMs),
    ...(rest.info === undefined ? {} : { info: rest.info }),
    ...(rest.died === undefined ? {} : { died: rest.died }),
  }));
}

/** Powers a guest off cleanly, by force when it does not answer. @throws FastioError GUEST_NOT_RUNNING. */
export async function stopVm(name: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
  await sweepStale();
  if ((await readState(guestDirectory(name))) === undefined) throw notRunning(name);
  await stopGuest(await connectKeeper(guestDirectory(name), name, signal), signal);
}

/** Removes what killed runs left behind; says what. Called at each boot. */
export async function sweepStale(): Promise<readonly string[]> {
  return await sweepDirectories();
}

/** Whether hardware can carry guests of an architecture here; tried by booting, where nothing rules it out before. */
export async function probeHardware(
  { arch, kernel, qemu }: Pick<VmSpec, 'arch' | 'kernel' | 'qemu'>,
  { report, signal }: Work,
): Promise<AccelProbe> {
  const host = await hostFacts(hostArchitecture());
  const accel = host.platform === 'darwin' ? 'hvf' : 'kvm';
  const hopeless = ruleOut(accel, arch, host);
  if (hopeless !== undefined) return { accel, usable: false, reason: hopeless };
  const [best] = await probeAccelerators(arch, kernel, { qemu, report, signal });
  return best ?? { accel, usable: false, reason: 'nothing was tried' };
}

/** Tries each accelerator by booting the guest's kernel with it; the best one comes first. */
export async function probeAccelerators(
  arch: Arch,
  kernel: KernelSeries,
  {
    qemu: which,
    report,
    signal,
  }: { readonly qemu: VmSpec['qemu']; readonly report: Report; readonly signal: AbortSignal },
): Promise<readonly AccelProbe[]> {
  const work = { report, signal };
  const [image, qemu] = await Promise.all([
    guestImage({ arch, kernel }, work),
    qemuProgram(which, arch, work),
  ]);
  const spec: VmSpec = {
    ...{ arch, kernel, cpus: 1, memoryMiB: 512, qemu: which },
    ...{ forwards: [], kernelArgs: [], qemuArgs: [] },
  };
  return await probeAll(arch, await hostFacts(hostArchitecture()), bootTrial({ qemu, image, spec, signal }));
}
