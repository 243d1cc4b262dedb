import { createReadStream } from 'node:fs';
import { watch } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError } from '../../vm/errors.js';
import type { GuestStatus } from '../../vm/machine/qemu-vm.js';
import { bootQemu, connectVm, kernelReportToError, listVms, stopVm } from '../../vm/machine/qemu-vm.js';
import type { ExecOptions, Vm } from '../../vm/vm.js';
import type { Context } from '../context.js';
import { exitCodes } from '../exit.js';
import type { GuestOptions } from '../options.js';
import { specOf } from '../options.js';

/** `fastio up`: boots a guest that stays until `fastio down`. */
export async function up(options: GuestOptions, context: Context): Promise<number> {
  await using vm = await bootQemu(specOf(options), {
    name: options.name,
    accel: options.accel,
    requireAccel: options.requireAccel,
    report: context.report,
    signal: context.signal,
    detach: true,
  });
  const { kernelRelease, accel, accelReason, cpus, memoryMiB, startedFrom, forwards } = vm.info;
  const lines = [
    `guest "${vm.name}" is up: Linux ${kernelRelease}, ${cpus} vCPUs, ${memoryMiB} MiB, from ${startedFrom}`,
    `accel=${accel} because ${accelReason}`,
    ...forwards.map(({ hostPort, guestPort }) => `127.0.0.1:${hostPort} leads to port ${guestPort}`),
  ];
  context.print({ name: vm.name, ...vm.info }, lines.join('\n'));
  return exitCodes.good;
}

/** `fastio down`: powers one guest off, or all of them. */
export async function down(
  options: { readonly name: string; readonly all?: boolean },
  context: Context,
): Promise<number> {
  const names = options.all === true ? await stoppable() : [options.name];
  for (const name of names) await stopVm(name, { signal: context.signal });
  context.print({ stopped: names }, names.map((name) => `guest "${name}" is down`).join('\n'));
  return exitCodes.good;
}

/** A guest that is still starting belongs to the command that starts it. */
async function stoppable(): Promise<readonly string[]> {
  return (await listVms()).filter(({ state }) => state !== 'starting').map(({ name }) => name);
}

/** `fastio status`: every guest of this user. */
export async function status(_options: unknown, context: Context): Promise<number> {
  const guests = await listVms();
  context.print(guests, guests.length === 0 ? 'no guest is running' : guests.map(statusLine).join('\n'));
  return guests.some(({ state }) => state === 'dead') ? exitCodes.kernel : exitCodes.good;
}

function statusLine({ name, state, info, upMs, died }: GuestStatus): string {
  const uptime = `${Math.floor(upMs / 60_000)} min ${Math.floor(upMs / 1_000) % 60} s`;
  if (info === undefined) return `${name}  ${state}  ${uptime}`;
  const what = `${info.kernelRelease} ${info.arch} accel=${info.accel} ${info.cpus} vCPUs ${info.memoryMiB} MiB`;
  return `${name}  ${state}  ${what}  up ${uptime}${died === undefined ? '' : `  ${died}`}`;
}

export interface ExecCommandOptions {
  readonly name: string;
  readonly stdin: boolean;
  readonly timeout?: number;
  readonly cwd?: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A day: `exec` waits for what a person started, not for a test. */
const noTimeoutMs = 86_400_000;

/** `fastio exec`: runs a command in the guest and returns its status; a kernel splat meanwhile makes it 4. */
export async function exec(
  argv: readonly string[],
  options: ExecCommandOptions,
  context: Context,
): Promise<number> {
  await using vm = await connectVm(options.name, { signal: context.signal });
  const { mark } = await vm.kernelTrouble();
  const execOptions: ExecOptions = {
    signal: context.signal,
    timeoutMs: options.timeout === undefined ? noTimeoutMs : options.timeout * 1_000,
    env: options.env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.stdin ? { stdin: process.stdin } : {}),
    onStdout: (chunk) => process.stdout.write(chunk),
    onStderr: (chunk) => process.stderr.write(chunk),
  };
  const result = await vm.exec(argv, execOptions);
  const [trouble] = (await vm.kernelTrouble(mark)).reports;
  if (trouble !== undefined) throw kernelReportToError(trouble);
  return result.status;
}

export interface LogsOptions {
  readonly name: string;
  readonly source: 'console' | 'kernel' | 'qemu';
  readonly follow: boolean;
}

/** `fastio logs`: the guest's console, kernel log or QEMU's own messages. */
export async function logs(options: LogsOptions, context: Context): Promise<number> {
  if (options.source === 'kernel') {
    if (options.follow) {
      throw new FastioError(
        'USAGE',
        '--follow goes with console and qemu',
        'Follow the console: it shows the kernel log.',
      );
    }
    await using vm = await connectVm(options.name, { signal: context.signal });
    const lines = await vm.kernelLog({ signal: context.signal });
    context.print(lines, lines.join('\n'));
    return exitCodes.good;
  }
  const file = join(await directoryOf(options.name), `${options.source}.log`);
  let offset = await copyFrom(file, 0);
  if (!options.follow) return exitCodes.good;
  try {
    for await (const { eventType } of watch(file, { signal: context.signal })) {
      if (eventType === 'change') offset = await copyFrom(file, offset);
    }
  } catch (error) {
    // Ctrl-C is how one stops following.
    if (!context.signal.aborted) throw error;
  }
  return exitCodes.good;
}

async function copyFrom(file: string, start: number): Promise<number> {
  let offset = start;
  for await (const chunk of createReadStream(file, { start }) as AsyncIterable<Buffer>) {
    process.stdout.write(chunk);
    offset += chunk.length;
  }
  return offset;
}

/** Where a guest keeps its logs, dead or alive. */
async function directoryOf(name: string): Promise<string> {
  const guest = (await listVms()).find((each) => each.name === name);
  if (guest?.info !== undefined) return guest.info.directory;
  throw new FastioError(
    'GUEST_NOT_RUNNING',
    `no guest "${name}" is running`,
    `Start it: fastio up --name ${name}`,
  );
}

/** `fastio cp`: copies files and directories into or out of a guest, `NAME:PATH` or `:PATH` being the guest's side. */
export async function cp(from: string, to: string, context: Context): Promise<number> {
  const source = place(from);
  const target = place(to);
  if ((source.guest === undefined) === (target.guest === undefined)) {
    throw new FastioError(
      'USAGE',
      `cp: found "${from}" and "${to}", expected exactly one of them in a guest`,
      'Write the guest’s side as :PATH, or NAME:PATH.',
    );
  }
  await using vm: Vm = await connectVm(source.guest ?? target.guest ?? '', { signal: context.signal });
  const wait = { signal: context.signal, timeoutMs: noTimeoutMs };
  if (target.guest === undefined) await vm.pull(source.path, target.path, wait);
  else await vm.push(source.path, target.path, wait);
  context.print({ from, to }, '');
  return exitCodes.good;
}

function place(text: string): { readonly guest: string | undefined; readonly path: string } {
  const match = /^([a-z0-9-]*):(.+)$/s.exec(text);
  if (match === null) return { guest: undefined, path: text };
  return { guest: match[1] === '' ? 'default' : match[1], path: match[2] ?? '' };
}
