import { expect, it, jest } from '@jest/globals';
import { join } from 'node:path';
import { checkC } from '../toolchain/check.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';

// Three builds, each with a sanitizer or none, and all tests in two of them, on as little as one CPU.
jest.setTimeout(1_800_000);

const work = { report: silent, signal: new AbortController().signal };
const trees = [
  { directory: join(projectRoot, 'lib'), mount: 'lib' },
  { directory: join(projectRoot, 'kmod/include'), mount: 'kmod/include' },
];

it('passes its own tests under ASan, UBSan and TSan', async () => {
  const log = await checkC({ name: 'libfastio', trees, makeIn: 'lib' }, work);

  expect(log.split('\n').filter((line) => line.startsWith('not ok '))).toEqual([]);
  expect(log.split('\n').filter((line) => line.startsWith('ok ')).length).toBeGreaterThan(400);
});

it('installs what pkg-config and a compiler need to build a program', async () => {
  const log = await checkC({ name: 'libfastio installation', trees, makeIn: 'lib', target: 'check-install' }, work);

  expect(log).toContain('ok 1 - a program built against the installed library runs');
});
