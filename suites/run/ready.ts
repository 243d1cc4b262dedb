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

/**
 * A server's `ready` as grep takes it in a guest that nobody talks to.
 * @throws FastioError INPUT_INVALID with file:line for what only JavaScript understands.
 */
export function extendedRegex(ready: string, loaded: LoadedSuite, server: string): string {
  const text = ready.replace(/\(\?(?:<\w+>|:)/g, '(').replace(/\\[dDsSwW]/g, (one) => classes[one] ?? one);
  const strange = /\[[^\]]*\\[dDsSwW]/.exec(ready)?.[0] ?? /\(\?|\\[a-zA-Z0-9]|[*+?}]\?/.exec(text)?.[0];
  if (strange === undefined) return text;
  throw invalid(loaded.source, [
    {
      path: ['servers', server, 'ready'],
      message: `found ${strange}, expected a regular expression that grep -E knows, too: under the virtual clock the guest itself waits for the line`,
    },
  ]);
}
