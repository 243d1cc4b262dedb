import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Arch } from '../vm/vm.js';
import type { Placed } from './artifacts.js';
import type { BuildOptions } from './build.js';
import type { SourceTree } from './sources.js';
import { buildC } from './targets.js';

/** Node's name for the machines the addon is built for. */
export const nodePlatforms: Readonly<Record<Arch, string>> = { arm64: 'linux-arm64', x86_64: 'linux-x64' };

/** `asan` has address and undefined behaviour checked, and needs libasan loaded first. */
export type AddonFlavour = 'release' | 'asan';

/** Builds the native half of the addon for one architecture; the path of fastio.node in the cache, refuse.so beside it. */
export async function buildAddon(
  projectRoot: string,
  arch: Arch,
  flavour: AddonFlavour,
  options: BuildOptions,
): Promise<string> {
  const output = `addon/build/${flavour}/fastio.node`;
  const preloaded = `addon/build/${flavour}/refuse.so`;
  const trees: readonly SourceTree[] = [
    {
      directory: join(projectRoot, 'addon'),
      include: ['Makefile', 'native', 'tests/refuse.c'],
      mount: 'addon',
    },
    { directory: join(projectRoot, 'lib'), mount: 'lib' },
    { directory: join(projectRoot, 'kmod/include'), mount: 'kmod/include' },
    {
      directory: join(projectRoot, 'node_modules/node-addon-api'),
      include: ['napi.h', 'napi-inl.h'],
      mount: 'node-addon-api',
    },
    { directory: join(projectRoot, 'node_modules/node-api-headers/include'), mount: 'node-api' },
  ];
  const makeArgs = ['NODE_ADDON_API=../node-addon-api', 'NODE_API=../node-api', `FLAVOUR=${flavour}`];
  const built = await buildC(
    { name: `addon ${flavour}`, arch, trees, makeIn: 'addon', makeArgs, outputs: [output, preloaded] },
    options,
  );
  return join(built.directory, output);
}

/** Puts it where the addon looks for it, in the layout of prebuildify. Returns that path. */
export async function placePrebuilt(projectRoot: string, arch: Arch, built: string): Promise<string> {
  const directory = join(projectRoot, 'addon/prebuilds', nodePlatforms[arch]);
  const path = join(directory, 'fastio.node');
  await mkdir(directory, { recursive: true });
  await copyFile(built, path);
  return path;
}

/** The addon, its examples and its tests for a guest that has Node: `addon/`, and `bin/node-echo`. */
export async function addonPrograms(
  projectRoot: string,
  arch: Arch,
  options: BuildOptions,
): Promise<readonly Placed[]> {
  const compiled = join(projectRoot, 'dist/addon');
  const scripts = (await readdir(compiled, { recursive: true })).filter((path) => path.endsWith('.js'));
  return [
    { from: join(projectRoot, 'addon/examples/node-echo'), to: 'bin/node-echo' },
    // Says that the scripts are modules.
    { from: join(projectRoot, 'package.json'), to: 'addon/package.json' },
    {
      from: await buildAddon(projectRoot, arch, 'release', options),
      to: `addon/prebuilds/${nodePlatforms[arch]}/fastio.node`,
    },
    ...scripts.map((path) => ({ from: join(compiled, path), to: `addon/${path}` })),
  ];
}
