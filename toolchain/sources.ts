import { createHash } from 'node:crypto';
import { copyFile, lstat, mkdir, readFile, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FastioError, errnoOf } from '../vm/errors.js';

/** A directory of sources, or chosen parts of one, as a build sees it. */
export interface SourceTree {
  readonly directory: string;
  /** Paths below `directory` to take, files or directories; without it everything. */
  readonly include?: readonly string[];
  /** Where the tree stands inside the build, below /src. Default: /src itself. */
  readonly mount?: string;
}

export interface SourceFile {
  readonly from: string;
  /** Path below /src. */
  readonly to: string;
  readonly executable: boolean;
}

/** A tree larger than this is a mistake: a build directory, a cache, a home. */
const maxFiles = 20_000;

/** What other tools leave beside sources; never input, so an unchanged tree stays unchanged. */
const ignored =
  /(^|\/)(node_modules|\.git|dist|build|results|Module\.symvers|modules\.order)(\/|$)|\.(o|ko|mod|mod\.c|cmd|a|so|d|test\.ts)$|~$/;

/** Lists a build's files in a fixed order. */
export async function listSources(trees: readonly SourceTree[]): Promise<readonly SourceFile[]> {
  const files: SourceFile[] = [];
  for (const tree of trees) {
    const mount = tree.mount ?? '';
    for (const start of tree.include ?? ['']) {
      await walk(tree.directory, start, mount, files);
    }
  }
  return files.sort((a, b) => (a.to < b.to ? -1 : a.to > b.to ? 1 : 0));
}

async function walk(base: string, path: string, mount: string, files: SourceFile[]): Promise<void> {
  const from = join(base, path);
  const stat = await lstat(from).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new FastioError(
      'INPUT_INVALID',
      `${from}: no such file or directory`,
      'Name a directory of sources.',
    );
  });
  if (stat.isDirectory()) {
    for (const entry of (await readdir(from)).sort()) {
      const child = path === '' ? entry : `${path}/${entry}`;
      if (!ignored.test(child)) await walk(base, child, mount, files);
    }
    return;
  }
  if (!stat.isFile()) {
    throw new FastioError(
      'INPUT_INVALID',
      `${from}: found a link or device, expected a file`,
      'Replace it with a file.',
    );
  }
  if (files.length >= maxFiles) {
    throw new FastioError(
      'INPUT_INVALID',
      `${base}: more than ${maxFiles} files`,
      'Name a smaller directory.',
    );
  }
  files.push({ from, to: join(mount, path), executable: (stat.mode & 0o100) !== 0 });
}

/** One hash for names, modes and contents. */
export async function hashSources(files: readonly SourceFile[]): Promise<string> {
  const hash = createHash('sha256');
  for (const { from, to, executable } of files) {
    const content = await readFile(from);
    hash.update(`${to}\0${executable ? 'x' : '-'}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

/** Copies the files below `directory`: a build never writes into the user's tree. */
export async function copySources(files: readonly SourceFile[], directory: string): Promise<void> {
  for (const { from, to } of files) {
    const target = join(directory, to);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(from, target);
  }
}
