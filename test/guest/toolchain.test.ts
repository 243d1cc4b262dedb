import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { loadModule, unloadModule } from '../../toolchain/load.js';
import { buildC, buildModule } from '../../toolchain/targets.js';
import { projectRoot } from '../../vm/paths.js';
import type { Vm } from '../../vm/vm.js';
import { expectQuietKernel, hostTemp, noSignal, report, sharedVm } from './guest.js';

const hello = {
  directory: join(projectRoot, 'test/guest/hello'),
  name: 'hello',
  arch: 'arm64',
  kernel: '6.12',
} as const;
const options = { report, signal: noSignal };
let vm: Vm;
let mark = 0;

beforeAll(async () => {
  vm = await sharedVm();
  mark = (await vm.kernelTrouble()).mark;
});

afterAll(async () => {
  await expectQuietKernel(vm, mark);
});

/** Loads the module, takes it out again, and returns what it said to the kernel log. */
async function loadAndUnload(modulePath: string): Promise<string> {
  await vm.exec(['dmesg', '--clear']);
  await loadModule(vm, modulePath, { ...options, kernel: '6.12' });
  const modules = await vm.exec(['cat', '/proc/modules']);
  expect(modules.stdout).toMatch(/^hello /m);
  await unloadModule(vm, 'hello', noSignal);
  return (await vm.exec(['dmesg'])).stdout;
}

describe('a module of ten lines', () => {
  it('is cross-built in the locked root, loads, speaks and leaves', async () => {
    const built = await buildModule(hello, options);

    const log = await loadAndUnload(built.path);

    expect(log).toMatch(/hello: loaded into aarch64-linux-gnu-gcc-14/);
    expect(log).toMatch(/hello: gone/);
  });

  it('is built in the guest by the guest’s own compiler and headers, and does the same', async () => {
    const built = await buildModule(hello, { ...options, inGuest: vm });

    const log = await loadAndUnload(built.path);

    expect(log).toMatch(/hello: loaded into/);
  });

  it('is not built again while nothing changed', async () => {
    await buildModule(hello, options);

    const again = await buildModule(hello, options);

    expect(again.cached).toBe(true);
  });

  it('is found by its name, as are one loaded after it and the kernel’s own', async () => {
    const directory = hostTemp();
    await copyFile(join(hello.directory, 'hello.c'), join(directory, 'again.c'));
    await writeFile(join(directory, 'Kbuild'), 'obj-m := again.o\n');
    const first = await buildModule(hello, options);
    const second = await buildModule({ ...hello, directory, name: 'again' }, options);
    for (const { path } of [first, second]) await loadModule(vm, path, { ...options, kernel: '6.12' });
    for (const name of ['again', 'hello']) await unloadModule(vm, name, noSignal);

    const found = await vm.exec(['modinfo', '--field=filename', 'hello', 'again', 'overlay']);

    const modules = `/lib/modules/${vm.info.kernelRelease}`;
    expect(found).toEqual({
      status: 0,
      stdout: `${modules}/updates/hello.ko\n${modules}/updates/again.ko\n${modules}/kernel/fs/overlayfs/overlay.ko\n`,
      stderr: '',
    });
  });

  it('is refused for a kernel it was not built for, with both versions named', async () => {
    const built = await buildModule({ ...hello, kernel: '6.1' }, options);

    const loading = loadModule(vm, built.path, { ...options, kernel: '6.12' });

    await expect(loading).rejects.toThrow(/found vermagic "6\.1\..*expected "6\.12/);
  });
});

describe('user programs', () => {
  it('run in the guest after a cross build', async () => {
    const directory = hostTemp();
    await writeFile(
      join(directory, 'answer.c'),
      '#include <stdio.h>\nint main(void) { puts("42"); return 0; }\n',
    );
    await writeFile(join(directory, 'Makefile'), 'answer: answer.c\n\t$(CC) -Wall -Werror -o $@ $<\n');
    const source = { name: 'answer', arch: 'arm64', trees: [{ directory }], outputs: ['answer'] } as const;
    const built = await buildC(source, options);
    await vm.push(join(built.directory, 'answer'), '/tmp/answer');

    const result = await vm.exec(['/tmp/answer']);

    expect(result).toEqual({ status: 0, stdout: '42\n', stderr: '' });
  });

  it('fail with the compiler’s own words', async () => {
    const directory = hostTemp();
    await writeFile(join(directory, 'Makefile'), 'bad:\n\techo "int main" | $(CC) -x c -o $@ -\n');
    const source = { name: 'bad', arch: 'arm64', trees: [{ directory }], outputs: ['bad'] } as const;

    const building = buildC(source, options);

    await expect(building).rejects.toMatchObject({
      code: 'BUILD_FAILED',
      detail: expect.arrayContaining([expect.stringContaining('error:')]),
    });
  });

  it('leave a log beside their outputs', async () => {
    const built = await buildModule(hello, options);

    const log = await readFile(join(built.directory, 'build.log'), 'utf8');

    expect(log).toContain('hello.o');
  });
});
