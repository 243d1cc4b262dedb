import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readLock } from '../vm/image/lock.js';
import { hostArchitecture, toolsRoot, unpackedRoot } from '../vm/image/tools.js';
import type { Work } from '../vm/image/work.js';
import type { Sandbox, Way } from './ways.js';
import { chooseWay, enter, prepareRoot } from './ways.js';

/** Where programs of the guest's userland run on this host: Debian's own servers, and Tcl for their tests. */
export interface ServerRoot {
  /** What is `/` there. Others use it as well: not to be changed. */
  readonly directory: string;
  /** The command line that runs `argv` there. */
  readonly command: (sandbox: Sandbox, argv: readonly string[]) => Promise<readonly string[]>;
}

/** What packages' scripts would have written: programs look up localhost their own user and group. */
const files: Readonly<Record<string, string>> = {
  'etc/hosts': '127.0.0.1 localhost\n::1 localhost\n',
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
  'etc/group': 'root:x:0:\n',
};

/**
 * Unpacks the guest's userland for this host's own architecture.
 * @throws FastioError BUILD_WAY_MISSING when the host lets nobody enter it.
 */
export async function serverRoot(work: Work): Promise<ServerRoot> {
  const root = await unpackedRoot(await readLock(`guest-${hostArchitecture()}`), work);
  for (const [path, content] of Object.entries(files)) {
    if (!existsSync(join(root, path))) await writeFile(join(root, path), content);
  }
  const roots = { run: await toolsRoot('run', work), build: root };
  await prepareRoot(root, []);
  const way: Way = await chooseWay(roots, work.signal);
  return {
    directory: root,
    command: async (sandbox, argv) => {
      await prepareRoot(root, sandbox.binds);
      return enter(way, roots, sandbox, argv);
    },
  };
}
