import { expect, it, jest } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildKmodTests } from '../test/guest/kmod-build.js';
import { checkC, checkModule } from '../toolchain/check.js';
import { run } from '../vm/exec.js';
import { hostArchitecture } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';

// Compilers of other architectures and sanitizers, on as little as one CPU.
jest.setTimeout(1_800_000);

const work = { report: silent, signal: new AbortController().signal };
const directory = join(projectRoot, 'kmod');

it.each([
  { arch: 'arm64', kernel: '6.12' },
  { arch: 'x86_64', kernel: '6.1' },
] as const)('gives no reason to warn to gcc, sparse and kernel-doc: $arch, $kernel', async (target) => {
  const log = await checkModule({ directory, name: 'fastio', ...target }, work);

  expect(log.match(/^ {2}CHECK .*\.c$/gm)?.length).toBeGreaterThan(10);
  expect(log).toContain('kernel-doc -none -Werror');
  expect(log.split('\n').filter((line) => line.includes('warning:'))).toEqual([]);
});

it('keeps ring indices sound under ASan, UBSan and TSan', async () => {
  const log = await checkC(
    { name: 'ring index', trees: [{ directory }], makeIn: 'tests', target: 'host-check' },
    work,
  );

  expect(log.match(/^not ok .*$/gm)).toBeNull();
  expect(log.match(/^ok .*$/gm)?.length).toBe(8);
});

it('has each test that the list of liburing’s scenarios names', async () => {
  const list = await readFile(join(projectRoot, 'docs/liburing-scenarios.md'), 'utf8');
  const programs = await buildKmodTests(hostArchitecture(), work);
  const named = [...list.matchAll(/`((?:abi|ops|fuzz)_\w+|scenarios|lifecycle|module|traffic|responsive)(?: "?([^`"]+)"?)?`/g)];

  const missing: string[] = [];
  for (const [reference, program = '', words = ''] of named) {
    const tests = (await run([join(programs, program), '--list'], work)).stdout.split('\n');
    if (!tests.some((test) => test !== '' && test.includes(words))) missing.push(reference);
  }

  expect(named.length).toBeGreaterThan(70);
  expect(missing).toEqual([]);
});
