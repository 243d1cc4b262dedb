import { copyFile, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { transferBytes } from '../channel/files.js';
import { FastioError } from '../errors.js';
import type { GuestImage } from '../image/image.js';
import type { BootOptions, KernelReport, VmInfo, VmSpec } from '../vm.js';
import type { Choice } from './accel.js';
import { qemuArguments, type MachinePaths } from './command-line.js';
import type { OwnedKeeper } from './keeper-link.js';
import type { Plan } from './plan.js';
import type { QemuProgram } from './program.js';
import {
  dropTemplate,
  ensureTemplate,
  inheritConsole,
  madeAnew,
  templateKey,
  type TemplateFiles,
} from './template.js';

/** Everything that was settled before QEMU starts. */
export interface Launch {
  readonly spec: VmSpec;
  readonly options: BootOptions;
  readonly image: GuestImage;
  readonly qemu: QemuProgram;
  readonly choice: Choice;
  /** The guest's own, in the run directory. */
  readonly directory: string;
  readonly keeper: OwnedKeeper;
}

/** Has the keeper start the guest: from its template where that is sound, by booting otherwise. */
export async function launch(setting: Launch): Promise<VmInfo> {
  const { spec, options, directory, qemu, choice } = setting;
  const transfer = await open(join(directory, 'transfer'), 'wx', 0o600);
  await transfer.truncate(transferBytes).finally(() => transfer.close());
  // Elsewhere a snapshot's state may depend on the host's processor or on a QEMU that changes under us.
  const canResume = spec.qemuArgs.length === 0 && choice.accel === 'tcg' && qemu.id !== undefined;
  if (!canResume) {
    options.report({ kind: 'stage', name: 'boot', detail: options.name });
    return await callStart(setting, planOf(setting, {}, false));
  }
  const key = templateKey({ imageId: setting.image.id, qemuId: qemu.id, argv: machineOf(setting) });
  const template = await ensure(setting, key);
  try {
    return await resume(setting, template);
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof FastioError) || error.code === 'PORT_TAKEN') throw error;
    options.report(madeAnew(error.message));
    await dropTemplate(key);
    return await resume(setting, await ensure(setting, key));
  }
}

/** The machine without this run's paths and ports: guests for which it is equal share a template. */
function machineOf({ spec, choice }: Launch): readonly string[] {
  const paths = { kernel: '', initrd: '', base: '', kernelLayer: '', transfer: '' };
  const memory = { path: '', shared: false };
  return qemuArguments({ ...spec, forwards: portless(spec) }, choice.accel, { ...paths, memory }, true);
}

async function ensure(setting: Launch, key: string): Promise<TemplateFiles> {
  const { spec, options, keeper, directory } = setting;
  const work = { report: options.report, signal: options.signal };
  return await ensureTemplate(key, spec.memoryMiB, work, async ({ memory, state, console }) => {
    // Ports are no part of a template, and may be taken while it is made.
    const bare = { ...setting, spec: { ...spec, forwards: portless(spec) } };
    const plan = { ...planOf(bare, { memory: { path: memory, shared: true } }, false), saveTo: state };
    const reports = await keeper.channel.call('saveTemplate', plan, options.signal);
    await copyFile(join(directory, 'console.log'), console);
    return reports as readonly KernelReport[];
  });
}

function portless(spec: VmSpec): VmSpec['forwards'] {
  return spec.forwards.length > 0 ? [{ hostPort: 0, guestPort: 1 }] : [];
}

async function resume(setting: Launch, template: TemplateFiles): Promise<VmInfo> {
  setting.options.report({ kind: 'stage', name: 'resume', detail: setting.options.name });
  await rm(join(setting.directory, 'console.log'), { force: true });
  const earlierReports = await inheritConsole(template, setting.directory);
  const plan = planOf(setting, { memory: { path: template.memory, shared: false } }, true);
  return await callStart(setting, { ...plan, resumeFrom: template.state, earlierReports });
}

async function callStart({ keeper, options }: Launch, plan: Plan): Promise<VmInfo> {
  return (await keeper.channel.call('start', plan, options.signal)) as VmInfo;
}

function planOf(setting: Launch, memory: Pick<MachinePaths, 'memory'>, resumes: boolean): Plan {
  const { spec, options, image, qemu, choice, directory } = setting;
  const paths = { ...image, ...memory, transfer: join(directory, 'transfer') };
  return {
    name: options.name,
    spec,
    directory,
    accel: choice.accel,
    accelReason: choice.reason,
    patience: options.patience ?? 1,
    qemuVersion: qemu.version,
    qemu: [...qemu.command, ...qemuArguments(spec, choice.accel, paths, resumes)],
  };
}
