import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError, errnoOf } from '../../vm/errors.js';
import type { Vm, VmSpec } from '../../vm/vm.js';
import type { Block } from '../plan/planner.js';
import type { LoadedSuite } from '../schema/load.js';
import type { Artifacts, SuiteOptions } from './options.js';

/** Where artifacts stand in the guest. */
export const guestRoot = '/opt/fastio';
export const guestConf = `${guestRoot}/fastio.conf`;
export const guestPath = `${guestRoot}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;

/** A guest ready to measure a block by the wall clock. */
export interface Bench extends AsyncDisposable {
  readonly vm: Vm;
}

/**
 * Boots a guest for a block, puts programs and configuration in place and loads the modules its servers need.
 * @throws FastioError of the boot, or GUEST_COMMAND when a module is refused.
 */
export async function bootBench(
  name: string,
  block: Block,
  loaded: LoadedSuite,
  artifacts: Artifacts,
  options: SuiteOptions,
): Promise<Bench> {
  const { report, signal, accel, requireAccel } = options;
  const vm = await options.bootVm(specOf(loaded, options), { name, accel, requireAccel, report, signal });
  try {
    await vm.push(artifacts.directory, guestRoot, { signal });
    await vm.push(options.confFile, guestConf, { signal });
    const servers = new Set(block.runs.map(({ point }) => point.server));
    for (const module of modulesOf(loaded, servers)) await insmod(vm, module, loaded, signal);
  } catch (error) {
    await vm[Symbol.asyncDispose]();
    throw error;
  }
  return { vm, [Symbol.asyncDispose]: () => vm[Symbol.asyncDispose]() };
}

/** The guest a suite asks for. */
export function specOf(loaded: LoadedSuite, { arch, kernel, qemu }: SuiteOptions): VmSpec {
  const { cpus, memoryMiB } = loaded.suite.vm;
  return { arch, kernel, cpus, memoryMiB, qemu, forwards: [], kernelArgs: [], qemuArgs: [] };
}

function modulesOf(loaded: LoadedSuite, servers: ReadonlySet<string>): readonly string[] {
  const names = [...servers].map((server) => loaded.suite.servers[server]?.module);
  return [...new Set(names.filter((name) => name !== undefined))];
}

/** What comes after the file's name in a module's insmod. */
export function moduleWords(loaded: LoadedSuite, name: string): readonly string[] {
  const parameters = loaded.suite.modules[name]?.parameters ?? '';
  return parameters.split(/\s+/).filter((word) => word !== '');
}

async function insmod(vm: Vm, name: string, loaded: LoadedSuite, signal: AbortSignal): Promise<void> {
  const file = `${guestRoot}/modules/${name}.ko`;
  const { status, stderr } = await vm.exec(['insmod', file, ...moduleWords(loaded, name)], { signal });
  if (status === 0) return;
  const log = await vm.kernelLog({ signal });
  throw new FastioError(
    'GUEST_COMMAND',
    `insmod ${name}.ko: ${stderr.trim()}`,
    'Read the kernel’s last lines.',
    {
      detail: log.slice(-20),
    },
  );
}

/** What the guest says of itself, for the fingerprint. Lines `key=value`. */
export const fingerprintScript = `
echo kernelVersion="$(uname -v)"
echo machine="$(uname -m)"
echo clockSource="$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo commandLine="$(cat /proc/cmdline)"
echo mitigations="$(cat /sys/devices/system/cpu/vulnerabilities/* | sort -u | paste -sd ';')"
echo cpuPart="$(grep -m1 -E '^(CPU part|model name)' /proc/cpuinfo | sed 's/.*: *//')"
`;

/** Facts about a guest that decide whether its figures may be compared with another's. */
export async function guestFingerprint(
  { vm }: Bench,
  signal: AbortSignal,
): Promise<Readonly<Record<string, string | number>>> {
  const { arch, kernelRelease, cpus, memoryMiB, qemuVersion } = vm.info;
  const { stdout } = await vm.exec(['sh', '-c', fingerprintScript], { signal });
  return { arch, kernelRelease, cpus, memoryMiB, qemuVersion, ...parseFingerprint(stdout) };
}

/** Reads what the script printed. */
export function parseFingerprint(stdout: string): Readonly<Record<string, string>> {
  const pairs = stdout.split('\n').flatMap((line) => {
    const at = line.indexOf('=');
    return at < 1 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const];
  });
  return Object.fromEntries(pairs);
}

/** The kernel log and console of a guest, as far as they can still be had. */
export async function logsOf({ vm }: Bench): Promise<{ readonly kernel: string; readonly console: string }> {
  const kernel = vm.died.aborted ? '(the guest died; see console.log)' : await kernelLogOf(vm);
  const console = await readFile(join(vm.info.directory, 'console.log'), 'utf8').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return '(no console.log)';
    throw error;
  });
  return { kernel, console };
}

async function kernelLogOf(vm: Vm): Promise<string> {
  try {
    return (await vm.kernelLog()).join('\n');
  } catch (error) {
    if (!(error instanceof FastioError)) throw error;
    return `(the kernel log could not be read: ${error.message})`;
  }
}
