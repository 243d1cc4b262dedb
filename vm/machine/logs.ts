import { copyFile, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../errors.js';
import { runDir } from '../paths.js';

/** How many failed guests' logs are kept. */
const keptFailures = 8;

/** Where the logs of a guest that failed stay after its directory is gone; a later failure replaces them. */
export function failureDirectory(name: string): string {
  return join(runDir(), '.failed', name);
}

/** Copies a failed guest's logs to where they outlive it, and drops the oldest beyond a few. */
export async function keepLogs(name: string, directory: string): Promise<void> {
  const kept = failureDirectory(name);
  await mkdir(kept, { recursive: true });
  for (const log of ['console.log', 'qemu.log']) {
    await copyFile(join(directory, log), join(kept, log)).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
  }
  const all = join(runDir(), '.failed');
  const aged = await Promise.all(
    (await readdir(all)).map(async (each) => ({ each, ms: (await stat(join(all, each))).mtimeMs })),
  );
  aged.sort((a, b) => b.ms - a.ms);
  for (const { each } of aged.slice(keptFailures))
    await rm(join(all, each), { recursive: true, force: true });
}
