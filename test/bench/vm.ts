/**
 * How long users wait: prints a table, and exits 1 when a median is over its limit.
 *
 *   npm run bench:vm             with the cache as it is
 *   npm run bench:vm -- --cold   also an image from an empty cache, downloads included
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { buildModule } from '../../toolchain/targets.js';
import { guestImage } from '../../vm/image/image.js';
import { toolsRoot } from '../../vm/image/tools.js';
import { bootQemu } from '../../vm/machine/qemu-vm.js';
import { silent } from '../../vm/progress.js';
import { projectRoot } from '../../vm/paths.js';
import type { BootOptions, Vm, VmSpec } from '../../vm/vm.js';
import type { Measurement } from './table.js';
import { median, table } from './table.js';

const repeats = 5;
const work = { report: silent, signal: new AbortController().signal };
const spec: VmSpec = {
  arch: 'arm64',
  kernel: '6.12',
  cpus: 2,
  memoryMiB: 1024,
  qemu: 'locked',
  forwards: [],
  kernelArgs: [],
  qemuArgs: [],
};

/** Time until `action` calls `done`, or ends. */
async function seconds(action: (done: () => void) => Promise<unknown>): Promise<number> {
  const start = performance.now();
  let elapsedMs: number | undefined;
  await action(() => (elapsedMs = performance.now() - start));
  return (elapsedMs ?? performance.now() - start) / 1_000;
}

async function sample(
  name: string,
  limit: number,
  count: number,
  action: (done: () => void) => Promise<unknown>,
): Promise<Measurement> {
  const samples: number[] = [];
  for (let i = 0; i < count; i++) samples.push(await seconds(action));
  process.stderr.write(`${name}: ${median(samples).toFixed(3)} s\n`);
  return { name, unit: 's', samples, limit };
}

function bootOptions(): BootOptions {
  return { name: `bench-${process.pid}`, accel: 'tcg', requireAccel: false, ...work };
}

/** Powering the guest off is not what anybody waits for: it happens after `done`. */
async function bootAndAsk(which: VmSpec, done: () => void = () => undefined): Promise<void> {
  await using vm = await bootQemu(which, bootOptions());
  await vm.exec(['true']);
  done();
}

async function imageFromEmptyCache(): Promise<void> {
  const previous = process.env['FASTIO_CACHE'];
  const cache = mkdtempSync(join(tmpdir(), 'fastio-bench-'));
  process.env['FASTIO_CACHE'] = cache;
  try {
    await guestImage({ arch: 'arm64', kernel: '6.12' }, work);
  } finally {
    if (previous === undefined) delete process.env['FASTIO_CACHE'];
    else process.env['FASTIO_CACHE'] = previous;
    rmSync(cache, { recursive: true, force: true });
  }
}

async function inGuest(vm: Vm): Promise<readonly Measurement[]> {
  const directory = mkdtempSync(join(tmpdir(), 'fastio-bench-'));
  const file = join(directory, 'twenty');
  writeFileSync(file, randomBytes(20_000_000));
  try {
    return [
      await sample('exec round trip', 0.1, 20, () => vm.exec(['true'])),
      await sample('20 MB into the guest', 1, repeats, () => vm.push(file, '/tmp/twenty')),
      await sample('20 MB out of the guest', 1, repeats, () =>
        vm.pull('/tmp/twenty', join(directory, 'back')),
      ),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const measurements: Measurement[] = [];
if (process.argv.includes('--cold')) {
  measurements.push(await sample('image from an empty cache', 90, 1, imageFromEmptyCache));
}
await guestImage({ arch: 'arm64', kernel: '6.12' }, work);
await toolsRoot('build', work);
// An extra argument for QEMU rules the template out; this one changes nothing else.
measurements.push(
  await sample('boot to first command', 6, 3, (done) =>
    bootAndAsk({ ...spec, qemuArgs: ['-msg', 'timestamp=off'] }, done),
  ),
);
await bootAndAsk(spec);
measurements.push(await sample('resume and first command', 1, repeats, (done) => bootAndAsk(spec, done)));
{
  await using vm = await bootQemu(spec, bootOptions());
  measurements.push(...(await inGuest(vm)));
}
const hello = {
  directory: join(projectRoot, 'test/guest/hello'),
  name: 'hello',
  arch: 'arm64',
  kernel: '6.12',
} as const;
await buildModule(hello, work);
measurements.push(
  await sample('unchanged module, built again', 0.5, repeats, () => buildModule(hello, work)),
);

process.stdout.write(`${table(measurements)}\n`);
process.exitCode = measurements.every(({ samples, limit }) => median(samples) <= limit) ? 0 : 1;
