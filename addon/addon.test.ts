import { beforeAll, expect, it, jest } from '@jest/globals';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { AddonFlavour } from '../toolchain/addon.js';
import { buildAddon } from '../toolchain/addon.js';
import { run } from '../vm/exec.js';
import { hostArchitecture, toolsRoot } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';

// Builds on first use; and everything runs on as little as one CPU, slower yet under ASan.
jest.setTimeout(900_000);

const work = { report: silent, signal: new AbortController().signal };
const compiled = join(projectRoot, 'dist/addon');
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

/** Runs a compiled program against the user-space back end; what it printed, both streams. */
async function node(
  flavour: AddonFlavour,
  file: string,
  args: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  const env = {
    FASTIO_ADDON: paths.get(flavour) ?? '',
    FASTIO_BACKEND: 'user',
    FASTIO_QUIET: '1',
    FASTIO_REFUSE_LIBRARY: join(dirname(paths.get(flavour) ?? ''), 'refuse.so'),
    // V8 keeps what it has until the process ends: leaks are looked for by counting, in the soak.
    ...(flavour === 'asan' ? { LD_PRELOAD: sanitizers, ASAN_OPTIONS: 'detect_leaks=0' } : {}),
    ...environment,
  };
  const assignments = Object.entries(env).map(([key, value]) => `${key}=${value}`);
  const argv = ['env', ...assignments, process.execPath, '--test-reporter=tap', file, ...args];
  const { status, stdout, stderr } = await run(argv, { signal: AbortSignal.timeout(600_000) });
  const output = stdout + stderr;
  if (status !== 0) {
    const at = output.search(/^ *not ok|ERROR: AddressSanitizer|runtime error/m);
    throw new Error(`${file} ended with status ${status}:\n${output.slice(Math.max(at, 0)).slice(0, 4000)}`);
  }
  return output;
}

it.each([
  ['bad-input', 37],
  ['refused', 10],
  ['ring', 17],
  ['safety', 18],
  ['server', 12],
  ['connection', 13],
])('passes %s, as it is and under ASan and UBSan', async (name, tests) => {
  for (const flavour of ['release', 'asan'] as const) {
    const output = await node(flavour, join(compiled, 'tests', `${name}.js`));

    expect(Number(/^# pass (\d+)$/m.exec(output)?.[1])).toBeGreaterThanOrEqual(tests);
    expect(output).toContain('\n# fail 0\n');
  }
});

it.each([
  ['server', 9],
  ['connection', 13],
])('asks nothing of a %s that node:net does not do, but what is said to differ', async (name, tests) => {
  const output = await node('release', join(compiled, 'tests', `${name}.js`), [], { FASTIO_TESTED: 'net' });

  expect(Number(/^# pass (\d+)$/m.exec(output)?.[1])).toBeGreaterThanOrEqual(tests);
  expect(output).toContain('\n# fail 0\n');
});

it('neither grows nor leaks in a short soak', async () => {
  const output = await node('release', join(compiled, 'soak/soak.js'), ['--seconds', '10']);

  expect(output).toMatch(/^nothing leaked in \d+ rounds/m);
});

it('runs the README’s example, twenty lines long, as it is printed', async () => {
  const text = readFileSync(join(projectRoot, 'addon/README.md'), 'utf8');
  const example = /^```js\n([\s\S]*?)^```$/m.exec(text)?.[1] ?? '';
  expect(example.trimEnd().split('\n')).toHaveLength(20);
  const file = join(mkdtempSync(join(tmpdir(), 'fastio-addon-')), 'example.mjs');
  writeFileSync(file, example.replace("'@fastio/testbed/addon'", JSON.stringify(join(compiled, 'index.js'))));

  const output = await node('release', file);

  expect(output).toContain('echoed: hello\nread: import { open }\n');
});
