import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError, errnoOf } from '../errors.js';
import { writeCpio, type CpioEntry } from '../image/cpio.js';
import { guestImage } from '../image/image.js';
import { guestDirectory } from '../machine/directory.js';
import { projectRoot, runDir } from '../paths.js';
import type { BootOptions, BootVm, KernelReport, VmSpec } from '../vm.js';
import { prepareClock, type ClockMachine, type ClockOptions } from './clock.js';
import { readClockLog, type ClockLog } from './log.js';
import { jobScript, type JobGroup } from './steps.js';
import { watchSteps } from './watch.js';

/** Work for a guest that is decided before it boots. */
export interface Job {
  readonly groups: readonly JobGroup[];
  /** Host directory that the guest gets as the working directory; bin/ in it is on the PATH. There is nothing else but busybox. */
  readonly files: string;
  /** Also return the kernel's symbols. */
  readonly symbols?: boolean;
}

export interface StepResult {
  /** Exit status; undefined when the step did not end, or was not begun because an earlier one failed. */
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface JobResult {
  /** By `<group>.<step>`. */
  readonly steps: ReadonlyMap<string, StepResult>;
  /** Windows in the order in which the guest began them. */
  readonly clock: ClockLog;
  readonly machine: ClockMachine;
  /** What the kernel complained of. */
  readonly kernelReports: readonly KernelReport[];
  readonly kernelLog: readonly string[];
  /** All that came over the guest's console. */
  readonly console: string;
  /** Text of /proc/kallsyms, for profileLines(); empty unless the job asked for it. */
  readonly kallsyms: string;
  /** As `uname -r` prints it. */
  readonly kernelRelease: string;
  readonly qemuVersion: string;
}

/** How the guest of a job is booted; `patience` multiplies the half hour that a job has. */
export interface JobBoot extends Omit<BootOptions, 'accel' | 'requireAccel' | 'detach'> {
  readonly bootVm: BootVm;
  /** Called with each step the job begins, about when it does. */
  readonly onStep?: (group: string, step: string) => void;
}

/** Memory that the files of a job take in the guest, while it unpacks them. */
const maxFilesBytes = 256 * 1024 * 1024;
/** A job is done before the guest answers for the first time; this makes five minutes of it half an hour. */
const patience = 6;
const guestOut = '/dev/fastio-job';

/**
 * Boots a guest under the virtual clock, has it do the job before the host has a hand in anything, and returns what came
 * out. Equal jobs, specs and options give equal results, whatever else the host does: no byte from outside reaches the
 * guest before the job is over, and it touches no disk.
 * @throws FastioError of the boot; a step that failed is a result.
 */
export async function runJob(
  spec: VmSpec,
  job: Job,
  clock: Omit<ClockOptions, 'pace' | 'statsFile'>,
  boot: JobBoot,
): Promise<JobResult> {
  const { bootVm, onStep, patience: asked = 1, ...options } = boot;
  const work = { report: boot.report, signal: boot.signal };
  const directory = await mkdtemp(join(runDir(), 'job-'));
  const watch = onStep && watchSteps(join(guestDirectory(boot.name), 'console.log'), onStep);
  try {
    const statsFile = join(directory, 'clock.jsonl');
    const machine = await prepareClock(spec, { ...clock, pace: false, statsFile }, work);
    const initrd = join(directory, 'initrd');
    const image = await guestImage(spec, work);
    await writeFile(initrd, Buffer.concat([await readFile(image.initrd), await archive(job, machine)]));
    const withJob: VmSpec = {
      ...machine.spec,
      kernelArgs: [...machine.spec.kernelArgs, 'rdinit=/fastio-job/init'],
      // The last -initrd counts.
      qemuArgs: [...machine.spec.qemuArgs, '-initrd', initrd],
    };
    await using vm = await bootVm(withJob, {
      ...options,
      accel: 'tcg',
      requireAccel: false,
      patience: patience * asked,
    });
    const out = join(directory, 'out');
    await vm.pull(guestOut, out, { signal: boot.signal });
    const symbols = job.symbols === true ? (await vm.exec(['cat', '/proc/kallsyms'], options)).stdout : '';
    return {
      steps: await readSteps(out, job.groups),
      clock: await readClockLog(statsFile),
      machine,
      kernelReports: (await vm.kernelTrouble()).reports,
      kallsyms: symbols,
      kernelLog: await vm.kernelLog({ signal: boot.signal }),
      console: await readFile(join(vm.info.directory, 'console.log'), 'utf8'),
      kernelRelease: vm.info.kernelRelease,
      qemuVersion: vm.info.qemuVersion,
    };
  } finally {
    await watch?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  }
}

/** The second archive of the initramfs; the kernel unpacks it over the first. */
async function archive({ groups, files }: Job, machine: ClockMachine): Promise<Buffer> {
  const root = 'fastio-job';
  const file = (path: string, content: Uint8Array, mode: number): CpioEntry => ({
    type: 'file',
    path: `${root}/${path}`,
    mode,
    content,
  });
  return writeCpio([
    { type: 'directory', path: root, mode: 0o755 },
    file('init', await readFile(join(projectRoot, 'vm/clock/guest/job-init')), 0o755),
    file('vclock', await readFile(machine.tool), 0o755),
    file('steps', Buffer.from(jobScript(groups, machine.settleOffsetNs)), 0o644),
    { type: 'directory', path: `${root}/files`, mode: 0o755 },
    ...(await listFiles(files, `${root}/files`, { bytes: 0 })),
  ]);
}

/** In the order of names, so that equal directories give equal archives. */
async function listFiles(
  directory: string,
  to: string,
  sum: { bytes: number },
): Promise<readonly CpioEntry[]> {
  const entries: CpioEntry[] = [];
  for (const name of (await readdir(directory)).sort()) {
    const from = join(directory, name);
    const path = `${to}/${name}`;
    const info = await stat(from);
    if (info.isDirectory()) {
      entries.push({ type: 'directory', path, mode: 0o755 }, ...(await listFiles(from, path, sum)));
      continue;
    }
    sum.bytes += info.size;
    if (!info.isFile() || sum.bytes > maxFilesBytes) {
      throw new FastioError(
        'INPUT_INVALID',
        `${from}: expected files of together at most ${maxFilesBytes} bytes`,
        'Name a directory with only what the job needs.',
      );
    }
    const mode = (info.mode & 0o100) === 0 ? 0o644 : 0o755;
    entries.push({ type: 'file', path, mode, content: await readFile(from) });
  }
  return entries;
}

async function readSteps(
  directory: string,
  groups: readonly JobGroup[],
): Promise<ReadonlyMap<string, StepResult>> {
  const text = async (name: string): Promise<string | undefined> => {
    try {
      return await readFile(join(directory, name), 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  };
  const results = new Map<string, StepResult>();
  for (const { id, steps } of groups) {
    for (const step of steps) {
      if (step.kind === 'settle' || step.kind === 'stop') continue;
      const name = `${id}.${step.id}`;
      const status = await text(`${name}.status`);
      results.set(name, {
        status: status === undefined ? undefined : Number(status),
        stdout: (await text(`${name}.stdout`)) ?? '',
        stderr: (await text(`${name}.stderr`)) ?? '',
      });
    }
  }
  return results;
}
