import { resolve } from 'node:path';
import type { BuiltModule, ModuleSource } from '../../toolchain/targets.js';
import { buildModule } from '../../toolchain/targets.js';
import { loadModule } from '../../toolchain/load.js';
import { FastioError } from '../../vm/errors.js';
import { connectVm, kernelReportToError, listVms } from '../../vm/machine/qemu-vm.js';
import { projectRoot } from '../../vm/paths.js';
import type { Vm } from '../../vm/vm.js';
import type { Context } from '../context.js';
import { exitCodes } from '../exit.js';

export interface LoadCommandOptions {
  readonly name: string;
  readonly build: 'cross' | 'in-guest';
  /** Directory with a Kbuild file; without it FastIO's own. */
  readonly module?: string;
  /** Name of the module a directory of one's own makes. */
  readonly as?: string;
  readonly param: readonly string[];
}

/** Kernel options FastIO's module is written against. */
const requiredConfig = ['CONFIG_MODULES', 'CONFIG_NET', 'CONFIG_EPOLL', 'CONFIG_EVENTFD'];

/** `fastio load`: builds the module from the sources as they are and puts it into the running guest. */
export async function load(options: LoadCommandOptions, context: Context): Promise<number> {
  const guest = (await listVms()).find(({ name }) => name === options.name);
  if (guest === undefined) {
    throw new FastioError(
      'GUEST_NOT_RUNNING',
      `no guest "${options.name}" is running`,
      `Start it: fastio up --name ${options.name}`,
    );
  }
  const { arch, kernel } = guest.spec;
  await using vm = await connectVm(options.name, { signal: context.signal });
  const { mark } = await vm.kernelTrouble();
  const start = performance.now();
  const source = {
    directory: options.module === undefined ? resolve(projectRoot, 'kmod') : resolve(options.module),
    name: options.as ?? 'fastio',
    arch,
    kernel,
  };
  const built = await buildSomewhere(source, options.build, vm, context);
  const builtMs = performance.now() - start;
  const own = options.module === undefined;
  await loadModule(vm, built.path, {
    ...context,
    kernel,
    parameters: options.param,
    requiredConfig: own ? requiredConfig : [],
  });
  const [trouble] = (await vm.kernelTrouble(mark)).reports;
  if (trouble !== undefined) throw kernelReportToError(trouble);
  const loadedMs = performance.now() - start - builtMs;
  const text =
    `${source.name}.ko is loaded into "${options.name}" (Linux ${vm.info.kernelRelease}): ` +
    `${built.cached ? 'unchanged' : `built in ${seconds(builtMs)}`}, loaded in ${seconds(loadedMs)}`;
  context.print({ module: built.path, cached: built.cached, builtMs, loadedMs }, text);
  return exitCodes.good;
}

/** Where the host lets nobody into the compilers' root, the guest builds; that takes longer, and is said. */
export async function buildSomewhere(
  source: ModuleSource,
  where: LoadCommandOptions['build'],
  vm: Vm,
  context: Context,
): Promise<BuiltModule> {
  if (where === 'in-guest') return buildModule(source, { ...context, inGuest: vm });
  try {
    return await buildModule(source, context);
  } catch (error) {
    if (!(error instanceof FastioError) || error.code !== 'BUILD_WAY_MISSING') throw error;
    context.report({
      kind: 'warning',
      message: `${error.message}: the guest builds instead (${error.detail.join('; ')})`,
      remedy: 'Run `fastio doctor` for what would allow cross builds.',
    });
    return buildModule(source, { ...context, inGuest: vm });
  }
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
