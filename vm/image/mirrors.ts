import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FastioError } from '../errors.js';

/** Where packages are looked for, when the caller wants something else than the host's own setting. */
export interface MirrorOptions {
  /** Tried before all others. Default: FASTIO_MIRROR, a list separated by commas. */
  readonly preferred?: readonly string[];
  /** The host's apt configuration; default /etc/apt. */
  readonly aptDirectory?: string;
  /** Public mirror for everybody. */
  readonly publicMirror?: string;
  /** Archive of every version that ever was; the lock's timestamp is appended. */
  readonly snapshotArchive?: string;
}

const defaultMirror = 'https://ftp.debian.org/debian';
const defaultArchive = 'https://snapshot.debian.org/archive/debian';

/** Mirror base addresses in the order to try them, without a slash at the end, each once. */
export function mirrorList(snapshot: string, options: MirrorOptions = {}): readonly string[] {
  const bases = [
    ...preferredMirrors(options),
    ...hostMirrors(options.aptDirectory),
    options.publicMirror ?? defaultMirror,
    `${options.snapshotArchive ?? defaultArchive}/${snapshot}`,
  ];
  return [...new Set(bases.map((base) => base.replace(/\/+$/, '')))];
}

function preferredMirrors({ preferred }: MirrorOptions): readonly string[] {
  const listed = preferred ?? (process.env['FASTIO_MIRROR'] ?? '').split(',').map((item) => item.trim());
  return listed
    .filter((item) => item !== '')
    .map((item) => {
      if (/^https?:\/\/[^/]/.test(item)) return item;
      throw new FastioError(
        'INPUT_INVALID',
        `mirror "${item}": expected an address such as ${defaultMirror}`,
        'Correct --mirror or FASTIO_MIRROR.',
      );
    });
}

/** Mirrors of Debian in the host's apt configuration, in its order. An unreadable file counts as empty. */
export function hostMirrors(directory = '/etc/apt'): readonly string[] {
  const files = [
    join(directory, 'sources.list'),
    ...list(join(directory, 'sources.list.d')).map((name) => join(directory, 'sources.list.d', name)),
  ];
  const found = files.flatMap((file) => {
    if (file.endsWith('.sources')) return parseDeb822(read(file));
    return file.endsWith('.list') ? parseOneLine(read(file)) : [];
  });
  return [...new Set(found)].filter(servesDebian).map((base) => base.replace(/\/+$/, ''));
}

/** `deb [options] URI suite components…` */
function parseOneLine(text: string): string[] {
  return text.split('\n').flatMap((line) => /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)/.exec(line)?.[1] ?? []);
}

/** Stanzas of `Key: value` lines separated by empty ones; continuation lines start with a space. */
function parseDeb822(text: string): string[] {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    const lines = stanza.split('\n').filter((line) => !line.startsWith('#'));
    const fields = new Map<string, string>();
    let key = '';
    for (const line of lines) {
      const start = /^([A-Za-z-]+):(.*)$/.exec(line);
      if (start !== null) key = (start[1] ?? '').toLowerCase();
      fields.set(key, `${fields.get(key) ?? ''} ${start === null ? line : (start[2] ?? '')}`);
    }
    const words = (name: string): string[] =>
      (fields.get(name) ?? '').split(/\s+/).filter((word) => word !== '');
    if (words('enabled')[0] === 'no' || !words('types').includes('deb')) return [];
    return words('uris');
  });
}

/** Vendors have a path ending in /debian too (and then answer 404): harmless, such a mirror soon comes last. */
function servesDebian(uri: string): boolean {
  if (!/^https?:\/\//.test(uri) || !URL.canParse(uri)) return false;
  const { hostname, pathname } = new URL(uri);
  const path = pathname.replace(/\/+$/, '');
  return (
    path.endsWith('/debian') ||
    (hostname.endsWith('.debian.org') && !/security|debug|backports/.test(path + hostname))
  );
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
