import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { runOrThrow } from '../../vm/exec.js';
import { agentSources, compileAgent } from '../../vm/image/agent.js';
import { kernelHeaders } from '../../vm/image/headers.js';
import { guestImage, imageStatus } from '../../vm/image/image.js';
import type { LayerPlan } from '../../vm/image/merge.js';
import { squashPackages } from '../../vm/image/squash.js';
import { toolCommand, toolsRoot } from '../../vm/image/tools.js';
import { silent } from '../../vm/progress.js';
import { architectures, kernels } from '../../vm/vm.js';
import { makeDeb } from '../fixtures/debs.js';

const work = { report: silent, signal: new AbortController().signal };
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fastio-image-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function smallPlan(): Promise<LayerPlan> {
  const deb = join(directory, 'small.deb');
  const files = [
    { path: 'usr/bin/su', content: 's'.repeat(300_000), mode: 0o4755 },
    { path: 'usr/bin/hard', link: 'usr/bin/su' },
    { path: 'lib/daemon', content: 'd', uid: 7 },
    { path: 'usr/bin/sh', symlink: 'dash' },
  ];
  await writeFile(deb, await makeDeb(files));
  return {
    ...{ debs: [deb], keep: () => true, capture: new Set<string>(), replaced: new Set<string>() },
    extra: () => [{ type: 'directory', path: 'tmp', mode: 0o1777 }],
    epochSeconds: 1_700_000_000,
  };
}

it('squashes packages to the same bytes twice, with modes, owners and links as packaged', async () => {
  const root = await toolsRoot('run', work);
  const plan = await smallPlan();
  const outputs = ['one', 'two'].map((name) => join(directory, name));

  for (const output of outputs) await squashPackages(plan, output, { root, signal: work.signal });

  const [one, two] = await Promise.all(outputs.map((output) => readFile(output)));
  expect(one?.equals(two ?? Buffer.alloc(0))).toBe(true);
  const { stdout } = await runOrThrow(
    toolCommand(root, 'unsquashfs', ['-llnumeric', '-UTC', outputs[0] ?? '']),
  );
  const lines = stdout.split('\n').map((line) => line.replace(/\s+/g, ' '));
  expect(lines).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^-rwsr-xr-x 0\/0 300000 .* squashfs-root\/usr\/bin\/su$/),
      expect.stringMatching(/^-rwsr-xr-x 0\/0 300000 .* squashfs-root\/usr\/bin\/hard$/),
      expect.stringMatching(/^-rw-r--r-- 7\/0 1 .* squashfs-root\/usr\/lib\/daemon$/),
      expect.stringMatching(/^lrwxrwxrwx .* squashfs-root\/usr\/bin\/sh -> dash$/),
      expect.stringMatching(/^drwxrwxrwt 0\/0 .* 2023-11-14 22:13 squashfs-root\/tmp$/),
    ]),
  );
});

it('stops with sqfstar’s own words when it cannot write', async () => {
  const root = await toolsRoot('run', work);

  const squashing = squashPackages(await smallPlan(), join(directory, 'absent', 'x'), {
    root,
    signal: work.signal,
  });

  await expect(squashing).rejects.toMatchObject({
    message: expect.stringContaining('sqfstar'),
    detail: expect.arrayContaining([expect.stringContaining('No such file or directory')]),
  });
});

it.each(architectures)('compiles the agent for %s to the same bytes wherever it is done', async (arch) => {
  const root = await toolsRoot('build', work);
  const sources = await agentSources();

  const one = await compileAgent(arch, sources, root, work.signal);
  const cache = process.env['FASTIO_CACHE'] ?? '';
  process.env['FASTIO_CACHE'] = directory;
  const two = await compileAgent(arch, sources, root, work.signal).finally(() => {
    process.env['FASTIO_CACHE'] = cache;
  });

  expect(one.equals(two)).toBe(true);
  // ELF, and the machine it is for: 0xb7 AArch64, 0x3e x86-64.
  expect([one.toString('latin1', 1, 4), one.readUInt16LE(18)]).toEqual([
    'ELF',
    arch === 'arm64' ? 0xb7 : 0x3e,
  ]);
});

it('shows the compiler’s message when the agent does not compile', async () => {
  const root = await toolsRoot('build', work);
  const broken = [{ name: 'agent.c', content: Buffer.from('int main(void) { return unknown; }\n') }];

  await expect(compileAgent('arm64', broken, root, work.signal)).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    detail: expect.arrayContaining([expect.stringMatching(/^agent\.c:1:25: error: .unknown. undeclared/)]),
  });
});

it('keeps an image in the cache, under an id that says what it is', async () => {
  const image = await guestImage({ arch: 'arm64', kernel: '6.12' }, work);
  const status = await imageStatus({ arch: 'arm64', kernel: '6.12' });

  expect(status).toMatchObject({ isBuilt: true, image });
  expect(image.id).toMatch(/^arm64-6\.12-[0-9a-f]{16}$/);
  expect(image.kernelRelease).toMatch(/^6\.12\..*-cloud-arm64$/);
});

it.each(architectures.flatMap((arch) => kernels.map((kernel) => ({ arch, kernel }))))(
  'has headers of $kernel for $arch that name their own release',
  async (spec) => {
    const headers = await kernelHeaders(spec, work);

    const built = join(headers.usrSrc, headers.kdir.replace('/usr/src/', ''));
    const release = await readFile(join(built, 'include/generated/utsrelease.h'), 'utf8');
    expect(release).toBe(`#define UTS_RELEASE "${headers.kernelRelease}"\n`);
    expect(await readFile(headers.config, 'utf8')).toContain('CONFIG_MODULES=y');
    expect(await readFile(headers.moduleSymvers, 'utf8')).toContain('\tregister_chrdev_region\t');
  },
);
