import { resolve } from 'node:path';
import { loadModule } from '../../toolchain/load.js';
import { bootQemu, kernelReportToError } from '../../vm/machine/qemu-vm.js';
import type { Context } from '../context.js';
import type { GuestOptions } from '../options.js';
import { specOf } from '../options.js';
import { buildSomewhere } from './load.js';

export interface TryOptions extends GuestOptions {
  readonly module: string;
  readonly as: string;
  readonly files?: string;
  readonly param: readonly string[];
  /** Seconds. */
  readonly timeout: number;
}

/** Where the guest finds what --files names. */
const filesInGuest = '/root/files';

/** `fastio try`: a guest for one command: boots, builds and loads a module, runs the command, powers off. */
export async function tryModule(
  argv: readonly string[],
  options: TryOptions,
  context: Context,
): Promise<number> {
  const { signal, report } = context;
  const spec = specOf(options);
  await using vm = await bootQemu(spec, {
    name: options.name,
    accel: options.accel,
    requireAccel: options.requireAccel,
    report,
    signal,
  });
  const { mark } = await vm.kernelTrouble();
  const source = {
    directory: resolve(options.module),
    name: options.as,
    arch: spec.arch,
    kernel: spec.kernel,
  };
  const built = await buildSomewhere(source, 'cross', vm, context);
  await loadModule(vm, built.path, { ...context, kernel: spec.kernel, parameters: options.param });
  if (options.files !== undefined) await vm.push(resolve(options.files), filesInGuest, { signal });
  report({ kind: 'stage', name: 'run', detail: argv.join(' ') });
  const result = await vm.exec(argv, {
    signal,
    timeoutMs: options.timeout * 1_000,
    cwd: options.files === undefined ? '/root' : filesInGuest,
    onStdout: (chunk) => process.stdout.write(chunk),
    onStderr: (chunk) => process.stderr.write(chunk),
  });
  const [trouble] = (await vm.kernelTrouble(mark)).reports;
  if (trouble !== undefined) throw kernelReportToError(trouble);
  return result.status;
}
