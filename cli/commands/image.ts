import { cleanCache } from '../../vm/image/clean.js';
import { guestImage, verifyImage } from '../../vm/image/image.js';
import { refreshLocks } from '../../vm/image/refresh.js';
import type { Arch, KernelSeries } from '../../vm/vm.js';
import type { Context } from '../context.js';
import { exitCodes } from '../exit.js';

export interface ImageOptions {
  readonly arch: Arch;
  readonly kernel: KernelSeries;
}

/** `fastio image build`: makes the image, or says that the cache has it. */
export async function imageBuild(options: ImageOptions, context: Context): Promise<number> {
  const image = await guestImage(options, context);
  context.print(image, `image ${image.id}: Linux ${image.kernelRelease} for ${image.arch}`);
  return exitCodes.good;
}

/** `fastio image verify`: builds the image once more from its lock and compares every byte. */
export async function imageVerify(options: ImageOptions, context: Context): Promise<number> {
  const result = await verifyImage(options, context);
  const lines = result.files.map(
    ({ name, same, sha256 }) => `${same ? 'same     ' : 'DIFFERENT'}  ${sha256}  ${name}`,
  );
  context.print(result, lines.join('\n'));
  return result.same ? exitCodes.good : exitCodes.failed;
}

/** `fastio image lock`: asks apt for today's versions and writes the lock files anew. */
export async function imageLock(
  ids: readonly string[],
  options: { readonly mirror?: string },
  context: Context,
): Promise<number> {
  const changed = await refreshLocks(ids, options, context);
  const lines = changed.map(({ id, packages, changes }) => `${id}: ${packages} packages, ${changes} changed`);
  context.print(changed, lines.join('\n'));
  return exitCodes.good;
}

/** `fastio clean`: removes what the cache holds and no running guest uses. */
export async function clean(options: { readonly dryRun: boolean }, context: Context): Promise<number> {
  const result = await cleanCache({ dryRun: options.dryRun }, context);
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  const verb = options.dryRun ? 'would remove' : 'removed';
  const lines = [
    ...result.removed.map(({ path, bytes }) => `${verb} ${path} (${mb(bytes)})`),
    ...result.kept.map(({ path, reason }) => `kept ${path}: ${reason}`),
  ];
  context.print(result, lines.length === 0 ? 'the cache is empty' : lines.join('\n'));
  return exitCodes.good;
}
