import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { FastioError } from '../vm/errors.js';
import { kernelHeaders } from '../vm/image/headers.js';
import type { Report } from '../vm/progress.js';
import type { KernelSeries, Vm } from '../vm/vm.js';
import { readModule } from './elf.js';
import { placeModule } from './place.js';

export interface LoadOptions {
  readonly report: Report;
  readonly signal: AbortSignal;
  /** Which kernel's headers say what is exported. */
  readonly kernel: KernelSeries;
  /** `key=value` words for insmod. */
  readonly parameters?: readonly string[];
  /** Kernel options the module cannot do without, such as CONFIG_EVENTFD. */
  readonly requiredConfig?: readonly string[];
}

/**
 * Puts a module into a running guest, in place of an older one of the same name, and where modinfo finds it by name.
 * What insmod would refuse with two words is checked first and said in a sentence: the kernel's version, each symbol,
 * each kernel option.
 * @throws FastioError INPUT_INVALID when the module does not fit; GUEST_BUSY when the older one is in use.
 */
export async function loadModule(vm: Vm, modulePath: string, options: LoadOptions): Promise<void> {
  const { signal, report } = options;
  await checkModule(vm, modulePath, options);
  const name = basename(modulePath, '.ko').replaceAll('-', '_');
  report({ kind: 'stage', name: `load ${name}`, detail: vm.info.kernelRelease });
  await unloadModule(vm, name, signal);
  const target = await placeModule(vm, modulePath, options);
  const loaded = await vm.exec(['insmod', target, ...(options.parameters ?? [])], { signal });
  if (loaded.status === 0) return;
  const log = await vm.kernelLog({ signal });
  throw new FastioError(
    'INPUT_INVALID',
    `${basename(modulePath)}: the kernel refused it: ${loaded.stderr.trim()}`,
    'Read the end of the kernel log above.',
    { detail: log.slice(-10) },
  );
}

/** Takes a module out of the guest; not being loaded is fine. @throws FastioError GUEST_BUSY while it is in use. */
export async function unloadModule(vm: Vm, name: string, signal: AbortSignal): Promise<void> {
  const script = `[ ! -d /sys/module/${name} ] || rmmod ${name}`;
  const { status, stderr } = await vm.exec(['sh', '-c', script], { signal });
  if (status === 0) return;
  const holders =
    `find /proc/[0-9]*/fd -lname /dev/${name} 2>/dev/null | cut -d / -f 3 | sort -un | ` +
    'while read -r pid; do echo "$pid ($(cat "/proc/$pid/comm"))"; done';
  const { stdout } = await vm.exec(['sh', '-c', holders], { signal });
  const users = stdout.trim().replaceAll('\n', ', ') || 'no process by a descriptor, perhaps by a mapping';
  throw new FastioError(
    'GUEST_BUSY',
    `module ${name} cannot be unloaded: ${stderr.trim()}; used by: ${users}`,
    'Stop the programs in the guest that use it.',
  );
}

async function checkModule(vm: Vm, modulePath: string, options: LoadOptions): Promise<void> {
  const facts = readModule(modulePath, await readFile(modulePath));
  const { kernelRelease, arch } = vm.info;
  const vermagic = facts.info.get('vermagic') ?? 'none';
  if (!vermagic.startsWith(`${kernelRelease} `)) {
    throw new FastioError(
      'INPUT_INVALID',
      `${modulePath}: found vermagic "${vermagic.trim()}", expected "${kernelRelease} …"`,
      'Build the module for the kernel of the running guest.',
    );
  }
  const headers = await kernelHeaders({ arch, kernel: options.kernel }, options);
  const exported = exportedSymbols(await readFile(headers.moduleSymvers, 'utf8'));
  const missing = facts.undefinedSymbols.filter((symbol) => !exported.has(symbol));
  if (missing.length > 0) {
    throw new FastioError(
      'INPUT_INVALID',
      `${modulePath}: Linux ${kernelRelease} does not export ${missing.join(', ')}`,
      'Use exported symbols only: they are listed in the headers’ Module.symvers.',
    );
  }
  checkConfig(await readFile(headers.config, 'utf8'), options.requiredConfig ?? [], kernelRelease);
}

/** The names in a Module.symvers: `crc name module type namespace` per line. */
function exportedSymbols(symvers: string): ReadonlySet<string> {
  return new Set(symvers.split('\n').flatMap((line) => line.split('\t').slice(1, 2)));
}

function checkConfig(config: string, required: readonly string[], kernelRelease: string): void {
  const lines = new Set(config.split('\n'));
  const missing = required.filter((option) => !lines.has(`${option}=y`) && !lines.has(`${option}=m`));
  if (lines.has('CONFIG_MODULE_SIG_FORCE=y'))
    missing.push('unsigned modules (CONFIG_MODULE_SIG_FORCE is set)');
  if (missing.length === 0) return;
  throw new FastioError(
    'INPUT_INVALID',
    `Linux ${kernelRelease} lacks ${missing.join(', ')}`,
    'Choose another kernel with --kernel.',
  );
}
