import { pipeline } from 'node:stream/promises';
import { type LayerPlan, mergePackages } from './merge.js';
import { type Piped, pipeThrough } from './pipe.js';
import { writeTar } from './tar.js';
import { toolCommand } from './tools.js';

/** The file name of every layer's squashfs in its directory. */
export const squashfsName = 'layer.squashfs';

/**
 * Writes a squashfs of packages without ever unpacking them: their tar streams are merged into one that goes straight
 * into sqfstar. Owners, modes, hard links and set-id bits stay as packaged; the same plan gives the same bytes.
 * @param root tools root that holds sqfstar.
 * @returns what `capture` asked for.
 */
export async function squashPackages(
  plan: LayerPlan,
  output: string,
  { root, signal }: { readonly root: string; readonly signal: AbortSignal },
): Promise<ReadonlyMap<string, Buffer>> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const squash = startSqfstar(root, output, plan.epochSeconds, either);
  const merged = writeTar();
  const pouring = pipeline(merged.stream, squash.stdin);
  try {
    const captured = await Promise.race([mergePackages(plan, merged, either), failure(pouring, squash)]);
    merged.end();
    await pouring;
    await squash.ended;
    return captured;
  } catch (error) {
    stop.abort(error);
    merged.stream.destroy();
    await Promise.allSettled([pouring, squash.ended]);
    throw error;
  }
}

function startSqfstar(root: string, output: string, epochSeconds: number, signal: AbortSignal): Piped {
  const squash = pipeThrough(
    toolCommand(root, 'sqfstar', [
      ...['-comp', 'lz4', '-quiet', '-no-progress', '-exit-on-error', '-no-xattrs'],
      ...['-mkfs-time', String(epochSeconds), '-root-time', String(epochSeconds)],
      ...['-root-mode', '755', '-root-uid', '0', '-root-gid', '0'],
      output,
    ]),
    // sqfstar refuses to run with both the options and the variable.
    { signal, env: { ...process.env, SOURCE_DATE_EPOCH: undefined } },
  );
  squash.stdout.resume();
  return squash;
}

/** Never resolves; rejects when the far end fails, with the reason rather than the broken pipe. */
async function failure(pouring: Promise<void>, squash: Piped): Promise<never> {
  await Promise.all([
    squash.ended,
    pouring.catch(async (error: unknown) => {
      await squash.ended;
      throw error;
    }),
  ]);
  return await new Promise<never>(() => undefined);
}
