import { expect, it, jest } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FastioError } from '../vm/errors.js';
import { run } from '../vm/exec.js';
import { projectRoot } from '../vm/paths.js';

// Three builds, each with a sanitizer or none, and all tests in two of them, on as little as one CPU.
jest.setTimeout(900_000);

/** The names of the TAP lines that begin with `word`. */
function lines(output: string, word: 'ok' | 'not ok'): readonly string[] {
  return output.split('\n').filter((line) => line.startsWith(`${word} `));
}

async function demandCompiler(): Promise<void> {
  const found = await run(['sh', '-c', 'command -v make && command -v cc']);
  if (found.status === 0) return;
  throw new FastioError(
    'TOOL_MISSING',
    'lib/ is tested on this machine itself, which has no make or no C compiler (cc)',
    'Install them: apt-get install make gcc.',
  );
}

it('builds libfastio and passes its own tests under ASan, UBSan and TSan', async () => {
  await demandCompiler();
  const build = await mkdtemp(join(tmpdir(), 'fastio-lib-'));
  try {
    const { status, stdout, stderr } = await run([
      'make',
      '-C',
      join(projectRoot, 'lib'),
      `BUILD=${build}`,
      'check',
    ]);

    expect(lines(stdout, 'not ok')).toEqual([]);
    expect({ status, said: stderr.trimEnd().split('\n').slice(-20) }).toMatchObject({ status: 0 });
    expect(lines(stdout, 'ok').length).toBeGreaterThan(400);
  } finally {
    await rm(build, { recursive: true, force: true });
  }
});

it('installs what pkg-config and a compiler need to build a program', async () => {
  await demandCompiler();
  const root = await mkdtemp(join(tmpdir(), 'fastio-lib-'));
  const prefix = join(root, 'prefix');
  const lib = join(projectRoot, 'lib');
  try {
    const make = ['make', '-C', lib, `BUILD=${join(root, 'build')}`, `PREFIX=${prefix}`];
    const program = `
      set -eu
      flags=$(sed -n 's/^Cflags: //p; s/^Libs: //p' ${prefix}/lib/pkgconfig/fastio.pc |
        sed 's|\${libdir}|${prefix}/lib|; s|\${includedir}|${prefix}/include|')
      printf '#include <fastio.h>\\n#include <stdio.h>\\nint main(void) { return !puts(fastio_version()); }\\n' >${root}/a.c
      cc ${root}/a.c $flags -o ${root}/a
      LD_LIBRARY_PATH=${prefix}/lib ${root}/a`;

    expect(await run([...make, 'install'])).toMatchObject({ status: 0 });
    expect(await run(['sh', '-c', program])).toMatchObject({ status: 0, stdout: '0.1.0\n' });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
