import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { bootTrial } from './accel-trial.js';
import type { GuestImage } from '../image/image.js';
import type { VmSpec } from '../vm.js';
import type { Trial } from './accel.js';

/** Programs that end as QEMU does on machines whose acceleration is broken, which this one need not be. */

let directory: string;
let saved: string | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fastio-trial-'));
  saved = process.env['FASTIO_RUN_DIR'];
  process.env['FASTIO_RUN_DIR'] = directory;
});

afterEach(() => {
  rmSync(directory, { recursive: true });
  if (saved === undefined) delete process.env['FASTIO_RUN_DIR'];
  else process.env['FASTIO_RUN_DIR'] = saved;
});

function trialOf(script: string, signal = new AbortController().signal): Trial {
  const image: GuestImage = {
    id: 'image',
    arch: 'x86_64',
    kernelSeries: '6.12',
    kernelRelease: '6.12.0',
    kernel: '/k',
    initrd: '/i',
    base: '/b',
    kernelLayer: '/l',
  };
  const spec: VmSpec = {
    arch: 'x86_64',
    kernel: '6.12',
    cpus: 1,
    memoryMiB: 512,
    qemu: 'locked',
    forwards: [],
    kernelArgs: [],
    qemuArgs: [],
  };
  const qemu = { command: ['sh', '-c', script, 'qemu'], version: '10.0.13', id: 'x' };
  return bootTrial({ qemu, image, spec, signal });
}

it('does not wait for a QEMU that goes on running after KVM gave up', async () => {
  const started = performance.now();

  const verdict = await trialOf('echo "KVM internal error. Suberror: 1" >&2; exec sleep 60')('kvm');

  expect(verdict).toEqual({ usable: false, reason: 'QEMU says: KVM internal error. Suberror: 1' });
  expect(performance.now() - started).toBeLessThan(5_000);
});

it('says what QEMU said when it aborts', async () => {
  const script = 'echo "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0" >&2; kill -ABRT $$';

  const verdict = await trialOf(script)('kvm');

  expect(verdict).toEqual({ usable: false, reason: 'QEMU says: error: failed to set MSR 0x10a to 0x0' });
});

it('names the status of a QEMU that ends without the guest having run', async () => {
  const verdict = await trialOf('echo "[    0.0] Booting Linux"; echo "bad day" >&2; exit 3')('kvm');

  expect(verdict).toEqual({
    usable: false,
    reason: 'QEMU ended (status 3) before the guest ran: bad day',
  });
});

it('believes the sentinel, and remembers the answer for the next guest', async () => {
  const log = join(directory, 'started');
  const script = `echo x >>${log}; echo "fastio-guest: user space runs"; exec sleep 60`;

  const first = await trialOf(script)('kvm');
  const again = await trialOf(script)('kvm');
  rmSync(log);
  const other = await trialOf(`${script} `)('kvm');

  expect(first).toEqual({ usable: true, reason: expect.stringContaining('reached user space') });
  expect(again).toEqual(first);
  expect(other.usable).toBe(true);
});

it('stops when it is interrupted, and remembers nothing', async () => {
  const stop = new AbortController();
  const script = 'exec sleep 60';
  const trying = trialOf(script, stop.signal)('kvm');

  stop.abort(new Error('Ctrl-C'));

  await expect(trying).rejects.toThrow('Ctrl-C');
});
