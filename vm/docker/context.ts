import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import type { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import { FastioError } from '../errors.js';
import { projectRoot } from '../paths.js';

/** What is built into an image: this very program with what it needs at run time. */
export interface BuildContext {
  /** Equal ids are equal contents. */
  readonly id: string;
  /** A tar archive for the engine. */
  archive(): Readable;
}

interface PackageJson {
  readonly version: string;
  readonly files?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface ContextFile {
  readonly from: string;
  /** Path in the archive. */
  readonly to: string;
}

/** Collects the program's files; reads all of those that are ours, and of its dependencies only names and versions. */
export async function buildContext(): Promise<BuildContext> {
  const own = await ownFiles();
  const packages = await dependencyPackages();
  const hash = createHash('sha256');
  for (const { from, to } of own) hash.update(`${to}\0`).update(await readFile(from));
  for (const { to, version } of packages) hash.update(`${to}@${version}\0`);
  return {
    id: hash.digest('hex').slice(0, 16),
    archive: () => archiveOf(own, packages),
  };
}

async function ownFiles(): Promise<readonly ContextFile[]> {
  const { files = [] } = await packageJson(projectRoot);
  const found: ContextFile[] = [];
  for (const name of [...files.filter((each) => !each.startsWith('!')), 'package.json', 'Dockerfile']) {
    const path = join(projectRoot, name);
    if (!existsSync(path)) continue;
    if ((await stat(path)).isDirectory()) await list(path, name, found);
    else found.push({ from: path, to: name });
  }
  // Sources of the TypeScript part, and of tests, are of no use at run time.
  return found.filter(({ to }) => !/(^|[^d])\.ts$|\.test\.|\.tsbuildinfo$/.test(to));
}

/** In the order of names, so that equal directories give equal archives. */
async function list(directory: string, to: string, found: ContextFile[]): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const from = join(directory, entry.name);
    if (entry.isDirectory() && entry.name !== 'node_modules') await list(from, `${to}/${entry.name}`, found);
    else if (entry.isFile()) found.push({ from, to: `${to}/${entry.name}` });
  }
}

interface DependencyPackage {
  readonly from: string;
  readonly to: string;
  readonly version: string;
}

/** Every package that is needed at run time, found as Node finds them, whether hoisted above us or not. */
async function dependencyPackages(): Promise<readonly DependencyPackage[]> {
  const found = new Map<string, DependencyPackage>();
  const queue = [projectRoot];
  for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
    const { dependencies = {}, optionalDependencies = {} } = await packageJson(at);
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const from = resolvePackage(name, at);
      if (from === undefined) {
        if (name in optionalDependencies) continue;
        throw new FastioError(
          'TOOL_MISSING',
          `package ${name}, which ${at} needs, is not there`,
          'Run `npm ci`.',
        );
      }
      if (found.has(from)) continue;
      const { version } = await packageJson(from);
      found.set(from, { from, to: placeOf(from), version });
      queue.push(from);
    }
  }
  return [...found.values()].sort((a, b) => (a.to < b.to ? -1 : 1));
}

function resolvePackage(name: string, from: string): string | undefined {
  for (let at = from; ; at = dirname(at)) {
    const candidate = join(at, 'node_modules', name);
    if (existsSync(join(candidate, 'package.json'))) return candidate;
    if (at === dirname(at)) return undefined;
  }
}

/** `node_modules/…`: from the first directory of that name that holds the package, seen from where we are. */
function placeOf(directory: string): string {
  const below = relative(projectRoot, directory).split(sep);
  if (below[0] === 'node_modules') return below.join('/');
  for (let at = dirname(projectRoot); at !== dirname(at); at = dirname(at)) {
    const modules = at.endsWith(`${sep}node_modules`) ? at : join(at, 'node_modules');
    const inside = relative(modules, directory);
    if (!inside.startsWith('..')) return `node_modules/${inside.split(sep).join('/')}`;
  }
  throw new Error(`${directory} lies in no node_modules`);
}

async function packageJson(directory: string): Promise<PackageJson> {
  return JSON.parse(await readFile(join(directory, 'package.json'), 'utf8')) as PackageJson;
}

function archiveOf(own: readonly ContextFile[], packages: readonly DependencyPackage[]): Readable {
  const archive = pack();
  const fill = async (): Promise<void> => {
    const files = [...own];
    for (const { from, to } of packages) await list(from, to, files);
    for (const { from, to } of files) {
      const info = await stat(from);
      const mode = (info.mode & 0o100) === 0 ? 0o644 : 0o755;
      const content = await readFile(from);
      await new Promise<void>((resolve, reject) => {
        archive.entry({ name: to, mode, mtime: new Date(0) }, content, (error) => {
          if (error === null || error === undefined) resolve();
          else reject(error);
        });
      });
    }
    archive.finalize();
  };
  fill().catch((error: unknown) => {
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  return archive as unknown as Readable;
}
