import { mkdirSync } from 'node:fs';
import { homedir, tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Root of the project's own files, whether this runs from the sources, from dist/, or from an installed package.
 */
export const projectRoot: string = (() => {
  const here = dirname(fileURLToPath(import.meta.url));
  const parent = dirname(here);
  return parent.endsWith('/dist') ? dirname(parent) : parent;
})();

/** Everything fetched or built: `$FASTIO_CACHE`, else `$XDG_CACHE_HOME/fastio`, else `~/.cache/fastio`. */
export function cacheDir(): string {
  const own = process.env['FASTIO_CACHE'];
  if (own !== undefined && own !== '') return own;
  const xdg = process.env['XDG_CACHE_HOME'];
  return join(xdg !== undefined && xdg !== '' ? xdg : join(homedir(), '.cache'), 'fastio');
}

/**
 * Where running guests keep sockets, logs and pid files: `$FASTIO_RUN_DIR`, else a directory of this user's in
 * the system's temporary one. Short on purpose: a Unix socket's path holds 107 bytes.
 */
export function runDir(): string {
  const own = process.env['FASTIO_RUN_DIR'];
  const dir = own !== undefined && own !== '' ? own : join(tmpdir(), `fastio-${userInfo().uid}`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return dir;
}
