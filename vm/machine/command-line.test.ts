import { expect, it } from '@jest/globals';
import type { VmSpec } from '../vm.js';
import { kernelCommandLine, qemuArguments, type MachinePaths } from './command-line.js';

const spec: VmSpec = {
  arch: 'arm64',
  kernel: '6.12',
  cpus: 3,
  memoryMiB: 768,
  qemu: 'locked',
  forwards: [],
  kernelArgs: [],
  qemuArgs: [],
};
const paths: MachinePaths = {
  kernel: '/i/vmlinuz',
  initrd: '/i/initrd',
  base: '/l/base.squashfs',
  kernelLayer: '/l/kernel.squashfs',
  transfer: '/r/transfer',
};

/** Values of every occurrence of an option. */
function values(argv: readonly string[], option: string): readonly (string | undefined)[] {
  return argv.flatMap((word, index) => (word === option ? [argv[index + 1]] : []));
}

it('describes an emulated arm64 machine of the size asked for', () => {
  const argv = qemuArguments(spec, 'tcg', paths, false);

  expect(values(argv, '-machine')).toEqual(['virt,gic-version=3']);
  expect(values(argv, '-cpu')).toEqual(['cortex-a57']);
  expect(values(argv, '-accel')).toEqual(['tcg,thread=multi']);
  expect(values(argv, '-smp')).toEqual(['3']);
  expect(values(argv, '-m')).toEqual(['768M']);
  expect(values(argv, '-incoming')).toEqual([]);
});

it('gives hardware its own processor', () => {
  const argv = qemuArguments({ ...spec, arch: 'x86_64' }, 'kvm', paths, false);

  expect(values(argv, '-cpu')).toEqual(['host']);
  expect(values(argv, '-accel')).toEqual(['kvm']);
  expect(values(argv, '-machine')[0]).toMatch(/^q35/);
});

it('keeps the order of the disks, read-only, which names them in the guest', () => {
  const argv = qemuArguments(spec, 'tcg', paths, false);

  const drives = values(argv, '-drive');
  expect(drives.map((drive) => /file=(.*)$/.exec(drive ?? '')?.[1])).toEqual([
    '/l/base.squashfs',
    '/l/kernel.squashfs',
    '/r/transfer',
  ]);
  expect(drives.every((drive) => drive?.includes('readonly=on'))).toBe(true);
});

it('has no network without forwards, and only loopback ports with them', () => {
  const without = qemuArguments(spec, 'tcg', paths, false);
  const forwards = [
    { hostPort: 0, guestPort: 22 },
    { hostPort: 7000, guestPort: 80 },
  ];
  const argv = qemuArguments({ ...spec, forwards }, 'tcg', paths, false);

  expect(values(without, '-netdev')).toEqual([]);
  expect(without.join(' ')).not.toContain('virtio-net');
  expect(values(argv, '-netdev')).toEqual([
    'user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:7000-:80',
  ]);
});

it('lets a caller’s own accelerator, processor and machine replace ours', () => {
  const qemuArgs = ['-accel', 'tcg,thread=single', '-cpu', 'neoverse-n1', '-machine', 'virt'];

  const argv = qemuArguments({ ...spec, qemuArgs }, 'tcg', paths, false);

  expect(values(argv, '-accel')).toEqual(['tcg,thread=single']);
  expect(values(argv, '-cpu')).toEqual(['neoverse-n1']);
  expect(values(argv, '-machine')).toEqual(['virt']);
});

it('backs memory by a file, shared to make a template and private to resume from it', () => {
  const memory = { path: '/c/a,b/memory', shared: false };

  const argv = qemuArguments(spec, 'tcg', { ...paths, memory }, true);

  expect(values(argv, '-object')).toEqual([
    'memory-backend-file,id=ram,size=768M,mem-path=/c/a,,b/memory,share=off',
  ]);
  expect(values(argv, '-machine')).toEqual(['virt,gic-version=3,memory-backend=ram']);
  expect(values(argv, '-incoming')).toEqual(['defer']);
});

it('tells the kernel to print everything and to end at an oops, and adds the caller’s words last', () => {
  const line = kernelCommandLine({ ...spec, kernelArgs: ['nokaslr', 'mitigations=off'] });

  expect(line).toMatch(/^console=ttyAMA0 /);
  expect(line.split(' ')).toEqual(expect.arrayContaining(['loglevel=7', 'oops=panic', 'panic=-1']));
  expect(line).toMatch(/ nokaslr mitigations=off$/);
  expect(kernelCommandLine({ ...spec, arch: 'x86_64' })).toMatch(/^console=ttyS0 /);
});
