/**
 * A long attack on the kernel module by hostile rings and racing calls. Debian builds no kernel with KASAN; the guest's
 * checks every object of its caches when it is freed and allocated (slub_debug), and guards a sample of them by pages that
 * fault (KFENCE). Exits 1 when a level rose or a check failed, 4 when the kernel complained.
 *
 *   npm run fuzz:kmod -- [--sqes 10000000] [--seconds 3600] [--seed N]
 */
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { loadModule } from '../../toolchain/load.js';
import { buildModule } from '../../toolchain/targets.js';
import { bootQemu } from '../../vm/machine/qemu-vm.js';
import { projectRoot } from '../../vm/paths.js';
import type { Report } from '../../vm/progress.js';
import type { Vm, VmSpec } from '../../vm/vm.js';
import { buildKmodTests } from '../guest/kmod-build.js';

const spec: VmSpec = {
  arch: 'arm64',
  kernel: '6.12',
  cpus: 2,
  memoryMiB: 1536,
  qemu: 'locked',
  forwards: [],
  kernelArgs: ['slub_debug=FZP', 'kfence.sample_interval=20'],
  qemuArgs: [],
};

/** What is run, and its share of the SQEs: racing calls are mostly other system calls. */
const attacks = [
  { program: 'fuzz_rings', share: 1 },
  { program: 'fuzz_races', share: 0.05 },
] as const;

interface Bounds {
  readonly sqes: number;
  /** Of the guest's time, for each program. */
  readonly seconds: number;
  /** Absent: from the guest's clock. */
  readonly seed?: number;
}

const report: Report = (event) => {
  if (event.kind === 'stage') process.stderr.write(`==> ${event.name} ${event.detail ?? ''}\n`);
};

/** Objects in use of each slab cache. */
async function objectsInUse(vm: Vm): Promise<ReadonlyMap<string, number>> {
  const { stdout } = await vm.exec(['cat', '/proc/slabinfo']);
  const rows = stdout
    .split('\n')
    .slice(2)
    .map((line) => line.split(/\s+/));
  return new Map(
    rows.flatMap(([name = '', active]) => (name === '' ? [] : [[name, Number(active)] as const])),
  );
}

/** The caches whose use has changed most, most first. */
function changesOf(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): readonly string[] {
  return [...after]
    .map(([name, now]) => ({ name, now, was: before.get(name) ?? 0 }))
    .sort((a, b) => Math.abs(b.now - b.was) - Math.abs(a.now - a.was))
    .slice(0, 12)
    .map(({ name, was, now }) => `${name.padEnd(24)} ${String(was).padStart(8)} ${String(now).padStart(8)}`);
}

async function attack(vm: Vm, program: string, { sqes, seconds, seed }: Bounds): Promise<boolean> {
  const before = await objectsInUse(vm);
  const { status, stdout, stderr } = await vm.exec([`/run/kmod-tests/${program}`], {
    env: {
      FASTIO_TEST_SLOWNESS: vm.info.accel === 'tcg' ? '10' : '1',
      FASTIO_FUZZ_SQES: String(sqes),
      FASTIO_FUZZ_SECONDS: String(seconds),
      FASTIO_FUZZ_SEED: seed === undefined ? '' : String(seed),
    },
    timeoutMs: (seconds + 300) * 1_000,
  });
  const changes = changesOf(before, await objectsInUse(vm));
  process.stdout.write(
    `${stdout}${stderr}objects in use             before    after\n${changes.join('\n')}\n\n`,
  );
  return status === 0;
}

async function fuzz(bounds: Bounds): Promise<void> {
  const options = { report, signal: new AbortController().signal };
  const { arch, kernel } = spec;
  const source = { directory: join(projectRoot, 'kmod'), name: 'fastio', arch, kernel };
  const module = await buildModule(source, options);
  const programs = await buildKmodTests(arch, options);
  await using vm = await bootQemu(spec, {
    name: `fuzz-${process.pid}`,
    accel: 'auto',
    requireAccel: false,
    ...options,
  });
  await loadModule(vm, module.path, { ...options, kernel });
  await vm.push(programs, '/run/kmod-tests', options);
  let good = true;
  for (const { program, share } of attacks) {
    const sqes = Math.ceil(bounds.sqes * share);
    good = (await attack(vm, program, { ...bounds, sqes })) && good;
  }
  const kfence = await vm.exec(['cat', '/sys/kernel/debug/kfence/stats']);
  process.stdout.write(`KFENCE\n${kfence.stdout}`);
  const { reports } = await vm.kernelTrouble();
  process.stdout.write(
    `kernel reports: ${reports.length}\n${reports.map((r) => JSON.stringify(r)).join('\n')}\n`,
  );
  process.exitCode = reports.length > 0 ? 4 : good ? 0 : 1;
}

function positive(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text))
    throw new InvalidArgumentError(`found ${text}, expected a positive integer`);
  return Number(text);
}

await new Command('fuzz:kmod')
  .option('--sqes <number>', 'SQEs of hostile rings; a twentieth of it of racing calls', positive, 10_000_000)
  .option('--seconds <number>', 'seconds that end each program', positive, 3_600)
  .option('--seed <number>', 'repeats the choices of an earlier run', positive)
  .action(fuzz)
  .parseAsync();
