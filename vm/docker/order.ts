import type { Readable } from 'node:stream';
import type { WireError } from '../machine/plan.js';
import type { Progress } from '../progress.js';
import type { BootOptions, VmInfo, VmSpec } from '../vm.js';

/** What a container is told to do: the first line of its standard input, as JSON. */
export type Order =
  | {
      /** Boot a guest; standard input and output then lead to its keeper. */
      readonly kind: 'boot';
      readonly spec: VmSpec;
      readonly options: Pick<BootOptions, 'name' | 'accel' | 'requireAccel'> & { readonly patience?: number };
    }
  | {
      /** Run a program, whose output becomes ours. */
      readonly kind: 'run';
      readonly argv: readonly string[];
      /** Whom files below `paths` shall belong to afterwards. */
      readonly owner: { readonly uid: number; readonly gid: number; readonly paths: readonly string[] };
    };

/** What a container that boots says on its standard error, one JSON object a line. */
export type Answer =
  | { readonly kind: 'progress'; readonly event: Progress }
  | { readonly kind: 'booted'; readonly info: VmInfo }
  | { readonly kind: 'failed'; readonly error: WireError };

/** The longest line that is waited for, in bytes. */
const lineMax = 1024 * 1024;

/** Reads one line and leaves what follows it in the stream. Rejects when the stream ends first. */
export async function readLine(input: Readable): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  return await new Promise<string>((resolve, reject) => {
    const finish = (end: () => void): void => {
      input.off('readable', take);
      input.off('end', ended);
      end();
    };
    const ended = (): void => {
      finish(() => {
        reject(new Error('the stream ended before its first line did'));
      });
    };
    const take = (): void => {
      for (let chunk = input.read() as Buffer | null; chunk !== null; chunk = input.read() as Buffer | null) {
        const cut = chunk.indexOf('\n');
        parts.push(cut < 0 ? chunk : chunk.subarray(0, cut));
        bytes += chunk.length;
        if (cut >= 0) {
          const rest = chunk.subarray(cut + 1);
          finish(() => {
            if (rest.length > 0) input.unshift(rest);
            resolve(Buffer.concat(parts).toString());
          });
          return;
        }
        if (bytes > lineMax) {
          finish(() => {
            reject(new Error(`no end of line within ${lineMax} bytes`));
          });
          return;
        }
      }
    };
    input.on('readable', take);
    input.on('end', ended);
  });
}
