import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { errnoOf, FastioError } from '../errors.js';
import { projectRoot } from '../paths.js';
import { architectures, kernels, type Arch } from '../vm.js';

/** Every lock file there is; the first part says for what, the last for which architecture. */
export const lockIds: readonly string[] = [
  ...architectures.flatMap((arch) => [
    `guest-${arch}`,
    ...kernels.map((series) => `kernel-${series}-${arch}`),
    `run-${arch}`,
    `build-${arch}`,
  ]),
  'sources',
];

/** One package, exactly; or one file of a source package, named `redis.orig` or `redis.debian`. */
export interface LockedPackage {
  readonly name: string;
  /** Debian's name: arm64, amd64, all or source. */
  readonly arch: string;
  readonly version: string;
  /** Of the file, 64 lower-case hex digits. */
  readonly sha256: string;
  readonly sizeBytes: number;
  /** Path below a mirror's base, not percent-encoded. */
  readonly poolPath: string;
}

export interface Lock {
  readonly id: string;
  readonly suites: readonly string[];
  /** When every version was in the archive, as snapshot.debian.org writes it: 20260912T075541Z. */
  readonly snapshot: string;
  readonly packages: readonly LockedPackage[];
  /** Hash of the packages, in order: equal hashes unpack to equal files. */
  readonly hash: string;
}

/** Debian's name of an architecture. */
export function debianArch(arch: Arch): 'arm64' | 'amd64' {
  return arch === 'arm64' ? 'arm64' : 'amd64';
}

/** Total size of the files. */
export function lockBytes(lock: Lock): number {
  return lock.packages.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

export function lockFile(id: string): string {
  return join(projectRoot, 'vm/image/locks', `${id}.lock`);
}

/** Reads a committed lock. @throws FastioError LOCK_INVALID naming file and line. */
export async function readLock(id: string, file: string = lockFile(id)): Promise<Lock> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw invalid(file, undefined, errnoOf(error) ?? 'unreadable', 'a lock file', id);
  }
  return parseLock(text, { file, id });
}

/** What a lock file holds, in the order its lines have. */
export function formatLock(lock: Omit<Lock, 'hash'>): string {
  const lines = sortPackages(lock.packages).map(formatPackage);
  const header = [
    ['format', '1'],
    ['id', lock.id],
    ['suites', lock.suites.join(' ')],
    ['snapshot', lock.snapshot],
    ['made-with', `fastio image lock ${lock.id}`],
    ['digest', digest(lines)],
  ];
  return [...header.map(([key, value]) => `# ${key ?? ''}: ${value ?? ''}`), ...lines, ''].join('\n');
}

/** @param expected the id the caller wants; a lock of another use or architecture is refused. */
export function parseLock(text: string, expected: { readonly file: string; readonly id: string }): Lock {
  const fail = (line: number, found: string, wanted: string): FastioError =>
    invalid(expected.file, line, found, wanted, expected.id);
  const lines = text.split('\n');
  const headerLines = lines.findIndex((line) => !line.startsWith('#'));
  const header = new Map<string, { readonly value: string; readonly line: number }>();
  lines.slice(0, headerLines).forEach((line, index) => {
    const [, key, value] = /^# ([a-z-]+): (.+)$/.exec(line) ?? [];
    if (key === undefined || value === undefined) throw fail(index + 1, line, 'a line `# key: value`');
    header.set(key, { value, line: index + 1 });
  });
  const need = (key: string, pattern: RegExp, wanted: string): string => {
    const entry = header.get(key);
    if (entry === undefined) throw fail(1, `no \`# ${key}:\` line`, wanted);
    if (!pattern.test(entry.value)) throw fail(entry.line, `${key} ${entry.value}`, wanted);
    return entry.value;
  };
  need('format', /^1$/, 'format 1');
  need('id', new RegExp(`^${expected.id.replaceAll('.', '\\.')}$`), `a lock for ${expected.id}`);
  const suites = need('suites', /^[a-z][a-z0-9-]*( [a-z][a-z0-9-]*)*$/, 'suite names').split(' ');
  const snapshot = need('snapshot', /^\d{8}T\d{6}Z$/, 'a time such as 20260912T075541Z');
  const packages = parsePackages(lines, headerLines, expected.id, fail);
  const wanted = digest(packages.map(formatPackage));
  need('digest', new RegExp(`^${wanted}$`), `${wanted}, the SHA-256 of the lines below`);
  return { id: expected.id, suites, snapshot, packages, hash: wanted };
}

type Fail = (line: number, found: string, wanted: string) => FastioError;

function parsePackages(lines: readonly string[], from: number, id: string, fail: Fail): LockedPackage[] {
  const arches = archesFor(id);
  const seen = new Set<string>();
  const packages: LockedPackage[] = [];
  if (lines.at(-1) !== '') throw fail(lines.length, 'the end of the file', 'a line feed after the last line');
  for (let index = from; index < lines.length - 1; index += 1) {
    const line = index + 1;
    const entry = parsePackage(lines[index] ?? '', (found, wanted) => fail(line, found, wanted));
    if (!arches.includes(entry.arch)) {
      throw fail(line, `${entry.name} for ${entry.arch}`, `packages for ${arches.join(' or ')}`);
    }
    const key = `${entry.name}:${entry.arch}`;
    if (seen.has(key)) throw fail(line, `${key} a second time`, 'each package once');
    seen.add(key);
    packages.push(entry);
  }
  if (packages.length === 0) throw fail(lines.length, 'no package', 'at least one package');
  return packages;
}

const fields: readonly (readonly [string, RegExp, string])[] = [
  ['name', /^[a-z0-9][a-z0-9+.-]+$/, 'a package name'],
  ['architecture', /^(arm64|amd64|all|source)$/, 'arm64, amd64, all or source'],
  ['version', /^[A-Za-z0-9.+~:-]+$/, 'a Debian version'],
  ['sha256', /^[0-9a-f]{64}$/, '64 hex digits'],
  ['size', /^[1-9][0-9]{0,9}$/, 'a number of bytes'],
  [
    'path',
    /^pool\/(?!.*\.\.)[A-Za-z0-9.+~_:/-]+\.(deb|tar\.(gz|xz))$/,
    'a path pool/… that ends in .deb, .tar.gz or .tar.xz',
  ],
];

function parsePackage(text: string, fail: (found: string, wanted: string) => FastioError): LockedPackage {
  const words = text.split(' ');
  if (words.length !== fields.length) {
    throw fail(
      text === '' ? 'an empty line' : `${words.length} fields`,
      'name arch version sha256 size path',
    );
  }
  fields.forEach(([name, pattern, wanted], index) => {
    const word = words[index] ?? '';
    if (!pattern.test(word)) throw fail(`${name} "${word}"`, wanted);
  });
  const [name = '', arch = '', version = '', sha256 = '', size = '', poolPath = ''] = words;
  return { name, arch, version, sha256, sizeBytes: Number(size), poolPath };
}

function archesFor(id: string): readonly string[] {
  if (id === 'sources') return ['source'];
  // Compilers target both architectures, so their libraries are of both.
  if (id.startsWith('build-')) return ['amd64', 'arm64', 'all'];
  return [id.endsWith('arm64') ? 'arm64' : 'amd64', 'all'];
}

function formatPackage({ name, arch, version, sha256, sizeBytes, poolPath }: LockedPackage): string {
  return `${name} ${arch} ${version} ${sha256} ${sizeBytes} ${poolPath}`;
}

function sortPackages(packages: readonly LockedPackage[]): LockedPackage[] {
  const key = (entry: LockedPackage): string => `${entry.name} ${entry.arch}`;
  return [...packages].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function digest(lines: readonly string[]): string {
  return createHash('sha256')
    .update(lines.map((line) => `${line}\n`).join(''))
    .digest('hex');
}

function invalid(
  file: string,
  line: number | undefined,
  found: string,
  wanted: string,
  id: string,
): FastioError {
  const inside = relative(projectRoot, file);
  const shown = inside.startsWith('..') ? file : inside;
  return new FastioError(
    'LOCK_INVALID',
    `${shown}${line === undefined ? '' : `:${line}`}: found ${found}, expected ${wanted}`,
    `Restore the file from the repository, or make it anew: fastio image lock ${id}`,
  );
}
