import { beforeAll, expect, it, jest } from '@jest/globals';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { AddonFlavour } from '../toolchain/addon.js';
import { addonTests, compiledAddon, faultsOf, runAddonProgram } from '../test/addon-programs.js';
import { buildAddon } from '../toolchain/addon.js';
import { hostArchitecture, toolsRoot } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';

// Builds on first use; and everything runs on as little as one CPU, slower yet under ASan.
jest.setTimeout(900_000);

const work = { report: silent, signal: new AbortController().signal };
const paths = new Map<AddonFlavour, string>();
let sanitizers = '';

beforeAll(async () => {
  for (const flavour of ['release', 'asan'] as const) {
    paths.set(flavour, await buildAddon(projectRoot, hostArchitecture(), flavour, work));
  }
  const libraries = join(
    await toolsRoot('build', work),
    `usr/lib/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`,
  );
  sanitizers = `${libraries}/libasan.so.8:${libraries}/libubsan.so.1`;
});

/** Runs a compiled program with what was built for the tests; what it printed, both streams. */
async function node(
  flavour: AddonFlavour,
  file: string,
  args: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  const path = paths.get(flavour) ?? '';
  return await runAddonProgram(
    {
      environment: {
        FASTIO_ADDON: path,
        FASTIO_REFUSE_LIBRARY: join(dirname(path), 'refuse.so'),
        // V8 keeps what it has until the process ends: leaks are looked for by counting, in the soak.
        ...(flavour === 'asan' ? { LD_PRELOAD: sanitizers, ASAN_OPTIONS: 'detect_leaks=0' } : {}),
        ...environment,
      },
    },
    file,
    args,
  );
}

it.each(Object.entries(addonTests))('passes %s, as it is and under ASan and UBSan', async (name, tests) => {
  for (const flavour of ['release', 'asan'] as const) {
    expect(faultsOf(await node(flavour, join(compiledAddon, 'tests', `${name}.js`)), tests)).toBe('');
  }
});

it.each([
  ['server', 9],
  ['connection', addonTests.connection],
])('asks nothing of a %s that node:net does not do, but what is said to differ', async (name, tests) => {
  const output = await node('release', join(compiledAddon, 'tests', `${name}.js`), [], {
    FASTIO_TESTED: 'net',
  });

  expect(faultsOf(output, tests)).toBe('');
});

it('neither grows nor leaks in a short soak', async () => {
  const output = await node('release', join(compiledAddon, 'soak/soak.js'), ['--seconds', '10']);

  expect(output).toMatch(/^nothing leaked in \d+ rounds/m);
});

it('runs the README’s example, twenty lines long, as it is printed', async () => {
  const text = readFileSync(join(projectRoot, 'addon/README.md'), 'utf8');
  const example = /^```js\n([\s\S]*?)^```$/m.exec(text)?.[1] ?? '';
  expect(example.trimEnd().split('\n')).toHaveLength(20);
  const file = join(mkdtempSync(join(tmpdir(), 'fastio-addon-')), 'example.mjs');
  writeFileSync(
    file,
    example.replace("'@fastio/testbed/addon'", JSON.stringify(join(compiledAddon, 'index.js'))),
  );

  const output = await node('release', file);

  expect(output).toContain('echoed: hello\nread: import { open }\n');
});
