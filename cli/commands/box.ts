import { join } from 'node:path';
import { echoPrograms } from '../../toolchain/artifacts.js';
import { buildModule } from '../../toolchain/targets.js';
import { makeBox } from '../../vm/box/box.js';
import { mebibytes } from '../../vm/image/disk.js';
import { projectRoot } from '../../vm/paths.js';
import type { Context } from '../context.js';
import { exitCodes } from '../exit.js';
import type { ImageOptions } from './image.js';

/** `fastio image box`: a Vagrant box of the image, with FastIO's module loaded at boot and the echo programs. */
export async function imageBox(
  options: ImageOptions & { readonly out: string },
  context: Context,
): Promise<number> {
  const { arch, kernel, out } = options;
  const module = await buildModule(
    { directory: join(projectRoot, 'kmod'), name: 'fastio', arch, kernel },
    context,
  );
  const programs = (await echoPrograms(projectRoot, arch, context)).map(({ from }) => from);
  const box = await makeBox({ arch, kernel }, { modules: [module.path], programs }, out, context);
  context.print(
    box,
    `${out}: ${mebibytes(box.bytes)}, Linux ${box.kernelRelease} for ${box.arch}\nStart it: vagrant up`,
  );
  return exitCodes.good;
}
