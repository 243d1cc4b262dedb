import { resolve } from 'node:path';
import { writeBundle } from '../../suites/bundle/bundle.js';
import { verifyBundle } from '../../suites/bundle/verify.js';
import { FastioError } from '../../vm/errors.js';
import type { Context } from '../context.js';
import { exitCodes } from '../exit.js';

export interface BundleOptions {
  readonly out?: string;
  readonly verify?: string;
}

/** `fastio bundle`: packs a run for somebody else, or checks what somebody else packed. */
export async function bundle(
  directory: string | undefined,
  { out, verify }: BundleOptions,
  context: Context,
): Promise<number> {
  if ((directory === undefined) === (verify === undefined) || (verify !== undefined && out !== undefined)) {
    throw new FastioError(
      'USAGE',
      'expected the directory of a run to pack, or --verify with an archive',
      'Add --help for usage.',
    );
  }
  if (directory === undefined) {
    const file = verify ?? '';
    const manifest = await verifyBundle(file);
    context.print(
      manifest,
      `${file}: ${manifest.files.length} files as listed, results ${manifest.resultsHash}`,
    );
    return exitCodes.good;
  }
  const file = out ?? `${resolve(directory)}.tar.gz`;
  const manifest = await writeBundle(directory, file);
  context.print(
    { file, ...manifest },
    `${file}: ${manifest.files.length} files\nto repeat it: ${manifest.rerun}`,
  );
  return exitCodes.good;
}
