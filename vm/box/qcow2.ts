import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { FastioError } from '../errors.js';
import type { Work } from '../image/work.js';
import { qemuProgram } from '../machine/program.js';
import { openQmp, type Qmp } from '../machine/qmp.js';
import { deadline, until } from '../wait.js';
import type { Arch } from '../vm.js';

/** How long copying one disk may take, in milliseconds: a few hundred MiB at a few MiB/s. */
const copyMs = 600_000;

export interface Conversion {
  /** A raw image, its size a multiple of 512 bytes. */
  readonly raw: string;
  /** What becomes of it; must not be there. */
  readonly qcow2: string;
}

interface Job {
  readonly id: string;
  readonly status: string;
  readonly error?: string;
}

/**
 * Writes raw images as qcow2, by a QEMU without a machine: the one that boots guests can write what it can read, so no
 * other program is needed. Equal images give equal bytes.
 * @throws FastioError QEMU_START with QEMU's words when it cannot.
 */
export async function writeQcow2(
  conversions: readonly Conversion[],
  arch: Arch,
  { report, signal }: Work,
): Promise<void> {
  const { command } = await qemuProgram('locked', arch, { report, signal });
  const [program = '', ...args] = [
    ...command,
    ...['-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none'],
    // Not by standard output: QEMU says there what it formats.
    ...['-chardev', 'socket,id=qmp,fd=3', '-mon', 'chardev=qmp,mode=control'],
    ...conversions.flatMap(({ raw }, at) => [
      '-drive',
      `if=none,id=disk${at},format=raw,readonly=on,file=${raw.replaceAll(',', ',,')}`,
    ]),
  ];
  const qemu = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  let messages = '';
  qemu.stderr?.on('data', (chunk: Buffer) => (messages = (messages + chunk.toString()).slice(-4_096)));
  const gone = new AbortController();
  qemu.once('close', (status) => {
    gone.abort(
      new FastioError('QEMU_START', `QEMU ended with ${status ?? 'a signal'}`, 'Read its last lines above.', {
        detail: messages.trimEnd().split('\n'),
      }),
    );
  });
  qemu.once('error', (error) => {
    gone.abort(error);
  });
  const stream = qemu.stdio[3] as Socket; // A pipe of Node's is one end of a socket pair.
  stream.on('error', () => undefined);
  const either = AbortSignal.any([signal, gone.signal]);
  try {
    const qmp = await openQmp(stream, either);
    for (const [at, { qcow2 }] of conversions.entries()) await copyDisk(qmp, `disk${at}`, qcow2, either);
  } finally {
    qemu.kill('SIGKILL');
  }
}

async function copyDisk(qmp: Qmp, device: string, target: string, signal: AbortSignal): Promise<void> {
  await qmp.execute(
    'drive-backup',
    {
      ...{ 'job-id': device, device, target, format: 'qcow2', sync: 'full', 'auto-dismiss': false },
      // One after the other, so that clusters have the order of the disk.
      'x-perf': { 'max-workers': 1 },
    },
    signal,
  );
  const late = new FastioError(
    'TIMEOUT',
    `writing ${target} took more than ${copyMs / 1_000} s`,
    'Look at what else the disk is doing.',
  );
  let job: Job | undefined;
  const concluded = async (): Promise<boolean> => {
    const jobs = (await qmp.execute('query-jobs', {}, signal)) as readonly Job[];
    job = jobs.find(({ id }) => id === device);
    return job?.status === 'concluded';
  };
  await until(concluded, { everyMs: 100, signal: AbortSignal.any([signal, deadline(copyMs, late)]) });
  if (job?.error !== undefined) {
    throw new FastioError('QEMU_START', `QEMU could not write ${target}: ${job.error}`, 'Check the disk.');
  }
  await qmp.execute('job-dismiss', { id: device }, signal);
}
