import { createWriteStream } from 'node:fs';

/** What one log of one guest may take on the disk, in bytes. */
export const logBytesMax = 64 * 1024 * 1024;

/** A file that text is added to, up to a limit; what comes later is dropped, and the file says so. */
export interface BoundedLog {
  write(chunk: Uint8Array | string): void;
  /** Resolves when everything is in the file, or never will be. */
  end(): Promise<void>;
}

export function openBoundedLog(path: string, limitBytes = logBytesMax): BoundedLog {
  const file = createWriteStream(path, { flags: 'a' });
  // A full disk must not take the guest with it; what it printed last is in memory too.
  file.on('error', () => undefined);
  let bytes = 0;
  return {
    write(chunk) {
      if (bytes > limitBytes) return;
      bytes += chunk.length;
      file.write(chunk);
      if (bytes > limitBytes) file.write(`\n[fastio: ${limitBytes} bytes reached; the rest is not kept]\n`);
    },
    end: () =>
      new Promise((resolve) => {
        file.once('close', resolve);
        file.end();
        if (file.closed) resolve();
      }),
  };
}
