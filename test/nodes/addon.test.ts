import { describe, expect, it } from '@jest/globals';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { nodePlatforms } from '../../toolchain/addon.js';
import { run } from '../../vm/exec.js';
import { projectRoot } from '../../vm/paths.js';
import type { AddonTests } from '../addon-programs.js';
import { addonTests, compiledAddon, faultsOf, runAddonProgram } from '../addon-programs.js';

/** From npm: the oldest that package.json admits, and one of each release line that is supported. */
const versions = ['20.11.0', '20.20.2', '22.23.3', '24.21.0'];

/** All but `refused`, which needs a library that is not shipped. */
const programs = Object.keys(addonTests).filter((name) => name !== 'refused') as AddonTests[];

/** Path of that Node, fetched when it is not there yet. */
async function nodeOf(version: string): Promise<string> {
  const argv = ['npx', '--yes', `--package=node@${version}`, '--', 'node', '--print', 'process.execPath'];
  const { status, stdout, stderr } = await run(argv, { signal: AbortSignal.timeout(300_000) });
  if (status !== 0) throw new Error(`npx node@${version} ended with status ${status}: ${stderr}`);
  return stdout.trim();
}

it('has been built for every platform, in the layout of prebuildify', () => {
  for (const platform of Object.values(nodePlatforms)) {
    expect(existsSync(join(projectRoot, 'addon/prebuilds', platform, 'fastio.node'))).toBe(true);
  }
});

describe.each(versions)('on Node %s the addon as it is shipped', (version) => {
  it.each(programs)('passes %s', async (name) => {
    const node = await nodeOf(version);
    expect((await run([node, '--version'])).stdout).toBe(`v${version}\n`);

    // Whatever is chosen otherwise: what is tested is the prebuilt file.
    const output = await runAddonProgram(
      { node, environment: { FASTIO_ADDON: '' } },
      join(compiledAddon, 'tests', `${name}.js`),
    );

    expect(faultsOf(output, addonTests[name])).toBe('');
  });
});
