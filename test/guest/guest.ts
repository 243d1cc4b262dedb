import { tmpdir } from 'node:os';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { FastioError } from '../../vm/errors.js';
import { bootQemu, connectVm, kernelReportToError } from '../../vm/machine/qemu-vm.js';
import type { Report } from '../../vm/progress.js';
import type { Vm, VmSpec } from '../../vm/vm.js';

/** The guest most tests share. It belongs to the jest process and dies with it, however that ends. */
const sharedName = `test-${process.pid}`;

export const defaultSpec: VmSpec = {
  arch: 'arm64',
  kernel: '6.12',
  cpus: 2,
  memoryMiB: 1024,
  qemu: 'locked',
  forwards: [],
  kernelArgs: [],
  qemuArgs: [],
};

/** Warnings and stages are worth seeing in a CI log; the rest is not. */
export const report: Report = (event) => {
  if (event.kind === 'stage') process.stderr.write(`==> ${event.name} ${event.detail ?? ''}\n`);
  if (event.kind === 'warning') process.stderr.write(`warning: ${event.message}\n`);
};

export const noSignal = new AbortController().signal;

/** Connects to the shared guest, booting it for the first caller. */
export async function sharedVm(): Promise<Vm> {
  try {
    return await connectVm(sharedName);
  } catch (error) {
    if (!(error instanceof FastioError) || error.code !== 'GUEST_NOT_RUNNING') throw error;
    return bootQemu(defaultSpec, {
      name: sharedName,
      accel: 'auto',
      requireAccel: false,
      report,
      signal: noSignal,
    });
  }
}

/** Fails when the guest's kernel complained since `mark`: no splat may pass, whatever the test saw. */
export async function expectQuietKernel(vm: Vm, mark: number): Promise<void> {
  const [trouble] = (await vm.kernelTrouble(mark)).reports;
  if (trouble !== undefined) throw kernelReportToError(trouble);
}

/** An empty directory of the host. */
export function hostTemp(): string {
  return mkdtempSync(join(tmpdir(), 'fastio-test-'));
}
