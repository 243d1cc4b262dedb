import { open } from 'node:fs/promises';
import { errnoOf } from '../errors.js';

/** A job's step that begins, as its script says on the console. */
const stepLine = /^fastio-job: (?:run|start|stop) ([a-z0-9-]+)\.([a-z0-9-]+)\r?$/;
/** How often the console is looked at; a reader, not a measurement, waits for it. */
const intervalMs = 500;
const chunkBytes = 64 * 1024;

/**
 * Calls back for each step a job begins, within a second, by reading the guest's console log as it grows. The log may
 * appear later. Nothing is called after the result has been disposed of; what cannot be read is not reported.
 */
export function watchSteps(file: string, onStep: (group: string, step: string) => void): AsyncDisposable {
  let over = false;
  let offset = 0;
  let rest = '';
  const look = async (): Promise<void> => {
    const { text, end } = await readFrom(file, offset);
    offset = end;
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, group, step] = stepLine.exec(line) ?? [];
      if (!over && group !== undefined && step !== undefined) onStep(group, step);
    }
  };
  let looking: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    looking = looking.then(look).catch(() => undefined);
  }, intervalMs);
  return {
    [Symbol.asyncDispose]: async () => {
      over = true;
      clearInterval(timer);
      await looking;
    },
  };
}

async function readFrom(
  file: string,
  offset: number,
): Promise<{ readonly text: string; readonly end: number }> {
  try {
    await using handle = await open(file);
    const buffer = Buffer.alloc(chunkBytes);
    const { bytesRead } = await handle.read(buffer, 0, chunkBytes, offset);
    return { text: buffer.toString('latin1', 0, bytesRead), end: offset + bytesRead };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { text: '', end: offset };
    throw error;
  }
}
