import type { LoadedSuite } from '../schema/load.js';
import { invalid } from '../schema/source.js';

/** What JavaScript writes shorter than POSIX does. */
const classes: Readonly<Record<string, string>> = {
  '\\d': '[0-9]',
  '\\D': '[^0-9]',
  '\\s': '[[:space:]]',
  '\\S': '[^[:space:]]',
  '\\w': '[[:alnum:]_]',
  '\\W': '[^[:alnum:]_]',
};

export interface GrepRegex {
  readonly text: string;
  /** Number, from 1, of the group "port"; undefined without one. */
  readonly portGroup: number | undefined;
}

/**
 * A server's `ready` as grep takes it in a guest that nobody talks to.
 * @throws FastioError INPUT_INVALID with file:line for what only JavaScript understands.
 */
export function extendedRegex(ready: string, loaded: LoadedSuite, server: string): GrepRegex {
  const text = ready.replace(/\(\?(?:<\w+>|:)/g, '(').replace(/\\[dDsSwW]/g, (one) => classes[one] ?? one);
  const strange = /\[[^\]]*\\[dDsSwW]/.exec(ready)?.[0] ?? /\(\?|\\[a-zA-Z0-9]|[*+?}]\?/.exec(text)?.[0];
  if (strange === undefined) return { text, portGroup: portGroupOf(ready) };
  throw invalid(loaded.source, [
    {
      path: ['servers', server, 'ready'],
      message: `found ${strange}, expected a regular expression that grep -E knows, too: under the virtual clock the guest itself waits for the line`,
    },
  ]);
}

function portGroupOf(ready: string): number | undefined {
  const at = ready.indexOf('(?<port>');
  if (at < 0) return undefined;
  // grep counts every pair, JavaScript's (?: ) too; escaped ones and those in brackets are none.
  const before = ready.slice(0, at).replace(/\\.|\[[^\]]*\]/g, '');
  return before.split('(').length;
}
