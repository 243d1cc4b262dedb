import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { buildModule } from '../../toolchain/targets.js';
import { bootQemu, connectVm, listVms, stopVm } from '../../vm/machine/qemu-vm.js';
import { projectRoot, runDir } from '../../vm/paths.js';
import type { Vm, VmSpec } from '../../vm/vm.js';
import { until } from '../../vm/wait.js';
import { defaultSpec, noSignal, report } from './guest.js';

/** Guests that come to harm, each its own: what they end with, and what is left of them. */

const spec: VmSpec = { ...defaultSpec, memoryMiB: 512 };
const patience = { everyMs: 50, signal: AbortSignal.timeout(900_000) };

function boot(name: string, signal = noSignal): Promise<Vm> {
  return bootQemu(spec, { name, accel: 'auto', requireAccel: false, report, signal });
}

/** Loads the module that gets the kernel into trouble. */
async function trouble(vm: Vm, kind: string, timeoutMs = 60_000): Promise<unknown> {
  const directory = join(projectRoot, 'test/guest/trouble');
  const what = { directory, name: 'trouble', arch: spec.arch, kernel: spec.kernel };
  const { path } = await buildModule(what, { report, signal: noSignal });
  await vm.push(path, '/root/trouble.ko');
  return await vm.exec(['insmod', '/root/trouble.ko', `kind=${kind}`], { timeoutMs });
}

function processRuns(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

describe('a kernel that', () => {
  it('panics ends every wait at once, and its last words are kept', async () => {
    await using vm = await boot('panics');
    const sleeping = vm.exec(['sleep', '1000']);
    const ended = expect(sleeping).rejects.toMatchObject({ code: 'GUEST_PANIC' });

    const triggering = vm.exec(['sh', '-c', 'echo c >/proc/sysrq-trigger']);

    await expect(triggering).rejects.toMatchObject({
      code: 'GUEST_PANIC',
      message: expect.stringContaining('sysrq triggered crash'),
      detail: expect.arrayContaining([expect.stringContaining('Call trace')]),
    });
    await ended;
    await expect(vm.exec(['true'])).rejects.toMatchObject({ code: 'GUEST_PANIC' });
    expect((await vm.kernelTrouble()).reports.map(({ severity }) => severity)).toEqual(['panic']);
    expect((await vm.kernelLog()).join('\n')).toContain('sysrq triggered crash');
    expect((await listVms()).find(({ name }) => name === 'panics')).toMatchObject({ state: 'dead' });
    const kept = await readFile(join(runDir(), '.failed/panics/console.log'), 'utf8');
    expect(kept).toContain('Kernel panic - not syncing');
  });

  it('oopses is ended by it, with the oops for a reason', async () => {
    await using vm = await boot('oopses');

    await expect(trouble(vm, 'oops')).rejects.toMatchObject({
      code: 'GUEST_OOPS',
      message: expect.stringContaining('NULL pointer dereference'),
    });
  });

  it.each([
    ['warns', 'warn', ['WARNING: CPU']],
    ['miscounts references', 'refcount', ['refcount_t: decrement hit 0']],
  ])('%s goes on, and the report is there for whoever asks', async (name, kind, headlines) => {
    await using vm = await boot(name.replaceAll(' ', '-'));
    const { mark } = await vm.kernelTrouble();

    await trouble(vm, kind);

    await until(async () => (await vm.kernelTrouble(mark)).reports.length > 0, patience);
    const seen = await vm.kernelTrouble(mark);
    expect(seen.reports.map(({ headline }) => headline)).toEqual(
      headlines.map((headline) => expect.stringContaining(headline)),
    );
    expect((await vm.kernelTrouble(seen.mark)).reports).toEqual([]);
    expect((await vm.exec(['true'])).status).toBe(0);
  });

  it('spins on every CPU with interrupts off is called hung, and its registers are kept', async () => {
    await using vm = await boot('spins');

    await expect(trouble(vm, 'spin', 300)).rejects.toMatchObject({
      code: 'GUEST_HANG',
      message: expect.stringContaining('no answer from its agent'),
    });
    expect(await readFile(join(runDir(), '.failed/spins/qemu.log'), 'utf8')).toMatch(/CPU#1\s+PC=/);
    await until(() => Promise.resolve(!processRuns(vm.info.qemuPid)), patience);
  });
});

describe('a guest whose', () => {
  it('QEMU is killed says so', async () => {
    await using vm = await boot('qemu-killed');
    const sleeping = vm.exec(['sleep', '1000']);
    const ended = expect(sleeping).rejects.toMatchObject({
      code: 'QEMU_GONE',
      message: expect.stringContaining('was killed'),
    });

    process.kill(vm.info.qemuPid, 'SIGKILL');

    await ended;
  });

  it('root powers it off from inside says so', async () => {
    await using vm = await boot('powers-off');

    const leaving = vm.exec(['sh', '-c', 'echo o >/proc/sysrq-trigger; sleep 1000']);

    await expect(leaving).rejects.toMatchObject({
      code: 'QEMU_GONE',
      message: expect.stringContaining('powered'),
    });
  });

  it('keeper is killed with SIGKILL takes QEMU along, and the next boot sweeps what is left', async () => {
    const vm = await boot('keeper-killed');
    const keeper = (await listVms()).find(({ name }) => name === 'keeper-killed')?.keeperPid ?? 0;

    process.kill(keeper, 'SIGKILL');

    await until(() => Promise.resolve(!processRuns(vm.info.qemuPid)), patience);
    await expect(vm.exec(['true'])).rejects.toMatchObject({ code: 'QEMU_GONE' });
    expect(existsSync(vm.info.directory)).toBe(true);
    await using again = await boot('keeper-killed');
    expect((await again.exec(['true'])).status).toBe(0);
  });

  it('boot is interrupted leaves nothing', async () => {
    const stop = new AbortController();
    const booting = boot('interrupted', stop.signal);
    await until(() => Promise.resolve(existsSync(join(runDir(), 'interrupted/console.log'))), patience);

    stop.abort(new Error('Ctrl-C'));

    await expect(booting).rejects.toThrow('Ctrl-C');
    expect(existsSync(join(runDir(), 'interrupted'))).toBe(false);
  });
});

/** Another process that boots a guest and then waits, as `fastio up` in the foreground does. */
async function ownerProcess(name: string, detach: boolean): Promise<ChildProcess> {
  const module = join(projectRoot, 'dist/vm/machine/qemu-vm.js');
  const script = `
    const { bootQemu } = await import(${JSON.stringify(module)});
    const signal = new AbortController().signal;
    const options = { name: '${name}', accel: 'tcg', requireAccel: false, report: () => {}, signal, detach: ${detach} };
    await bootQemu(${JSON.stringify(spec)}, options);
    process.stdout.write('up');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => {
      resolve();
    });
    child.once('exit', (status) => {
      reject(new Error(`the owner ended with ${status ?? 'a signal'}`));
    });
  });
  return child;
}

describe('a guest whose owner', () => {
  it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
    'dies of %s is gone, QEMU, keeper, directory and all',
    async (signal) => {
      const name = `owner-${signal.toLowerCase()}`;
      const owner = await ownerProcess(name, false);
      const guest = (await listVms()).find((each) => each.name === name);

      owner.kill(signal);

      await until(() => Promise.resolve(!existsSync(join(runDir(), name))), patience);
      expect(processRuns(guest?.info?.qemuPid ?? 0)).toBe(false);
      await until(() => Promise.resolve(!processRuns(guest?.keeperPid ?? 0)), patience);
    },
  );

  it('has let go of it lives on until it is stopped', async () => {
    const owner = await ownerProcess('detached', true);
    owner.kill('SIGKILL');
    await new Promise((resolve) => owner.once('exit', resolve));

    const vm = await connectVm('detached');
    const { stdout } = await vm.exec(['echo', 'still here']);
    const [status] = (await listVms()).filter(({ name }) => name === 'detached');
    await vm[Symbol.asyncDispose]();
    await stopVm('detached', { signal: noSignal });

    expect(stdout).toBe('still here\n');
    expect(status).toMatchObject({ state: 'running', detached: true });
    expect(processRuns(status?.info?.qemuPid ?? 0)).toBe(false);
    expect(existsSync(join(runDir(), 'detached'))).toBe(false);
  });
});
