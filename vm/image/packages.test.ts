import { expect, it } from '@jest/globals';
import { lockIds } from './lock.js';
import { wantedPackages } from './packages.js';

it.each(lockIds)('knows what to ask apt for %s', async (id) => {
  const { packages, onTopOf, arch } = await wantedPackages(id);

  expect(packages.filter((name) => !/^[a-z0-9][a-z0-9+.-]+(:arm64|:amd64)?$/.test(name))).toEqual([]);
  expect(new Set(packages).size).toBe(packages.length);
  expect(onTopOf?.id).toBe(id.startsWith('kernel-') ? `guest-${arch}` : undefined);
});

it('asks for compilers of the other architecture, whichever the host’s is', async () => {
  const onArm = await wantedPackages('build-arm64');
  const onIntel = await wantedPackages('build-x86_64');

  expect(onArm.packages).toEqual(expect.arrayContaining(['gcc-14-x86-64-linux-gnu', 'liburing-dev:amd64']));
  expect(onIntel.packages).toEqual(
    expect.arrayContaining(['gcc-14-aarch64-linux-gnu', 'liburing-dev:arm64']),
  );
  expect(onIntel.architectures).toEqual(['amd64', 'arm64']);
  expect(onIntel.kernels.map(({ parts }) => parts)).toEqual(['kbuild', 'kbuild']);
});

it('refuses an unknown lock, naming those there are', async () => {
  await expect(wantedPackages('guest-riscv64')).rejects.toMatchObject({
    code: 'USAGE',
    remedy: expect.stringContaining('kernel-6.1-arm64'),
  });
});
