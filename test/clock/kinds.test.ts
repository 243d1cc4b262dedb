import { expect, it } from '@jest/globals';
import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../vm/exec.js';
import { compileC, type SourceText } from '../../vm/image/compile.js';
import { hostArchitecture, loaderCommand, toolsRoot } from '../../vm/image/tools.js';
import { projectRoot } from '../../vm/paths.js';
import { hostTemp, noSignal, report } from '../guest/guest.js';

/** What each instruction has to be taken for. */
const kinds: Readonly<Record<string, readonly string[]>> = {
  other: [
    ...['nop', 'sev', 'isb', 'hint #95', 'hint #100', 'hvc #0', 'smc #0', 'brk #1', 'ret'],
    ...['msr ICC_SGI0R_EL1, x3', 'mrs x0, CNTVCT_EL0', 'ldr x0, [x1]', 'str x0, [x1, #8]'],
    ...['ldp x0, x1, [x2]', 'stp x0, x1, [sp, #-16]!', 'ldr w0, [x1, x2, lsl #2]', 'ldur x0, [x1, #-8]'],
    ...['prfm pldl1keep, [x0]', 'dc zva, x0', 'add x0, x1, x2', 'ld1 {v0.16b}, [x0]', 'str q0, [x1]', 'b .'],
  ],
  spin: ['yield', 'wfe'],
  wfi: ['wfi'],
  hint: ['hint #96', 'hint #97', 'hint #98', 'hint #99'],
  svc: ['svc #0', 'svc #65535'],
  eret: ['eret', 'eretaa', 'eretab'],
  ipi: ['msr ICC_SGI1R_EL1, x3', 'msr ICC_SGI1R_EL1, xzr'],
  atomic: [
    ...['ldxr x0, [x1]', 'stxr w2, x0, [x1]', 'ldaxr w0, [x1]', 'stlxr w2, w0, [x1]', 'ldaxrb w0, [x1]'],
    ...['ldxp x0, x1, [x2]', 'stlxp w3, x0, x1, [x2]', 'cas x0, x1, [x2]', 'casal w0, w1, [x2]'],
    ...['casb w0, w1, [x2]', 'casp x0, x1, x2, x3, [x4]', 'ldadd x0, x1, [x2]', 'ldaddal w0, w1, [x2]'],
    ...['stadd x0, [x1]', 'ldset x0, x1, [x2]', 'ldclrl x0, x1, [x2]', 'ldeor w0, w1, [x2]'],
    ...['ldsmax x0, x1, [x2]', 'swp x0, x1, [x2]', 'swpalb w0, w1, [x2]'],
  ],
  ordered: [
    ...['ldar x0, [x1]', 'ldarh w0, [x1]', 'stlr w0, [x1]', 'stlrb w0, [x1]', 'ldapr x0, [x1]'],
    ...['ldaprb w0, [x1]', 'ldapur x0, [x1, #8]', 'stlur x0, [x1, #8]'],
  ],
};
/** Stands before the instructions in the executable; as long as a few of them. */
const marker = 'the words begin:';
/** In the units kinds.c gives them. */
const extra: Readonly<Record<string, number>> = { svc: 2, eret: 3, atomic: 4, ipi: 5 };

it('takes every instruction for what the assembler meant, under the sanitizers', async () => {
  const work = { report, signal: noSignal };
  const root = await toolsRoot('build', work);
  const directory = hostTemp();
  const expected = Object.entries(kinds).flatMap(([kind, texts]) => texts.map((text) => ({ text, kind })));
  const assembly = expected.map(({ text }) => `"${text}\\n"`).join('\n');
  const executable = await compileC(
    {
      what: 'the instructions',
      where: 'test/clock/kinds.test.ts',
      arch: 'arm64',
      sources: [
        {
          name: 'words.c',
          content: Buffer.from(
            `__asm__(".arch armv8.5-a\\n.global _start\\n_start: .ascii \\"${marker}\\"\\n"\n${assembly});\n`,
          ),
        },
      ],
      flags: ['-nostdlib', '-static'],
    },
    root,
    noSignal,
  );
  const start = executable.indexOf(marker) + marker.length;
  const words = executable.subarray(start, start + expected.length * 4);
  const program = await compileC(
    {
      what: 'the classifier',
      where: 'vm/clock/plugin',
      arch: hostArchitecture(),
      sources: await Promise.all([
        ...['costs.c', 'costs.h', 'vcpu.h'].map((name) => source('vm/clock/plugin', name)),
        source('test/clock/guest', 'kinds.c'),
      ]),
      flags: ['-O1', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined'],
    },
    root,
    noSignal,
  );
  const path = join(directory, 'kinds');
  await writeFile(path, program);
  await chmod(path, 0o755);

  const { status, stdout, stderr } = await run([...loaderCommand(root), path], {
    input: words,
    signal: AbortSignal.timeout(30_000),
  });

  expect(stderr).toBe('');
  expect(status).toBe(0);
  const found = stdout.trimEnd().split('\n');
  expect(found.map((line, index) => `${expected[index]?.text ?? ''}: ${line}`)).toEqual(
    expected.map(({ text, kind }) => `${text}: ${kind} ${extra[kind] ?? 0}`),
  );
  await rm(directory, { recursive: true });
});

async function source(directory: string, name: string): Promise<SourceText> {
  return { name, content: await readFile(join(projectRoot, directory, name)) };
}
