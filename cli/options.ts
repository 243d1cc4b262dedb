import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';
import type { AccelChoice, Arch, KernelSeries, PortForward, VmSpec } from '../vm/vm.js';
import { accelerators, architectures, kernels } from '../vm/vm.js';

/** Options of every command that may start a guest, as commander hands them over. */
export interface GuestOptions {
  readonly name: string;
  readonly arch: Arch;
  readonly kernel: KernelSeries;
  readonly cpus: number;
  readonly memory: number;
  readonly accel: AccelChoice;
  readonly requireAccel: boolean;
  readonly qemu: 'locked' | 'host';
  readonly forward: readonly PortForward[];
}

/** Adds the options that describe a guest. */
export function guestOptions(command: Command): Command {
  return command
    .addOption(nameOption())
    .addOption(
      new Option('--arch <arch>', 'architecture of the guest').choices(architectures).default('arm64'),
    )
    .addOption(new Option('--kernel <series>', 'kernel series of the guest').choices(kernels).default('6.12'))
    .option('--cpus <n>', 'vCPUs, 1 to 64', integer(1, 64), 2)
    .option('--memory <MiB>', 'memory of the guest, 256 to 1048576', integer(256, 1_048_576), 1024)
    .addOption(new Option('--accel <accel>', 'accelerator to use').choices(accelerators).default('auto'))
    .option('--require-accel', 'fail rather than fall back to emulation', false)
    .addOption(
      new Option('--qemu <which>', 'the pinned QEMU, or the one on PATH')
        .choices(['locked', 'host'])
        .default('locked'),
    )
    .option(
      '--forward <[host:]guest>',
      'lead a loopback port to a port of the guest (repeatable)',
      forward,
      [],
    );
}

export const backends = ['auto', 'native', 'docker'] as const;
export type Backend = (typeof backends)[number];

/** `--backend`: where QEMU runs. `auto` prefers this machine, and a container where that lacks something. */
export function backendOption(): Option {
  return new Option('--backend <backend>', 'on this machine, or in a container of Docker')
    .choices(backends)
    .default('auto')
    .env('FASTIO_BACKEND');
}

/** `--name`, shared by every command that means one guest. */
export function nameOption(): Option {
  return new Option('--name <name>', 'name of the guest').default('default').argParser(guestName);
}

/** The specification the options describe. */
export function specOf(options: GuestOptions): VmSpec {
  return {
    arch: options.arch,
    kernel: options.kernel,
    cpus: options.cpus,
    memoryMiB: options.memory,
    qemu: options.qemu,
    forwards: options.forward,
    kernelArgs: [],
    qemuArgs: [],
  };
}

/** A parser for whole numbers from `low` to `high`. */
export function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${low} to ${high}.`);
  };
}

function guestName(text: string): string {
  if (/^[a-z0-9][a-z0-9-]{0,31}$/.test(text)) return text;
  throw new InvalidArgumentError('Expected 1 to 32 of a-z, 0-9 and "-", not starting with "-".');
}

function forward(text: string, previous: readonly PortForward[]): readonly PortForward[] {
  const match = /^(?:(\d{1,5}):)?(\d{1,5})$/.exec(text);
  const guestPort = Number(match?.[2] ?? Number.NaN);
  const hostPort = match?.[1] === undefined ? 0 : Number(match[1]);
  if (match === null || guestPort < 1 || guestPort > 65_535 || hostPort > 65_535) {
    throw new InvalidArgumentError('Expected GUEST or HOST:GUEST, ports from 1 to 65535.');
  }
  return [...previous, { hostPort, guestPort }];
}
