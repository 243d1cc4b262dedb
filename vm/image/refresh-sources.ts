import { readFile } from 'node:fs/promises';
import { FastioError } from '../errors.js';
import type { LockedPackage } from './lock.js';
import type { Wanted } from './packages.js';

/** The upstream archive and Debian's changes of each source package. */
export async function sourceFiles(
  apt: (argv: readonly string[]) => Promise<string>,
  wanted: Wanted,
): Promise<readonly { readonly entry: LockedPackage; readonly suite: string }[]> {
  const targets = await apt(['apt-get', 'indextargets', '--format', '$(FILENAME)', 'Created-By: Sources']);
  const stanzas = (await readFile(targets.trim().split('\n')[0] ?? '', 'utf8')).split('\n\n');
  return wanted.packages.flatMap((name) => {
    const stanza = stanzas.findLast((text) => text.startsWith(`Package: ${name}\n`));
    const field = (key: string): string => new RegExp(`^${key}: (.*)$`, 'm').exec(stanza ?? '')?.[1] ?? '';
    const sums = /^Checksums-Sha256:[^\n]*\n((?: .*\n?)+)/m.exec(stanza ?? '')?.[1] ?? '';
    const files = sums.split('\n').flatMap((line) => {
      const [, sha256, size, file, part] =
        /^ ([0-9a-f]{64}) (\d+) (\S+\.(orig|debian)\.tar\.[a-z]+)$/.exec(line) ?? [];
      if (sha256 === undefined) return [];
      const entry: LockedPackage = {
        ...{ name: `${name}.${part ?? ''}`, arch: 'source', version: field('Version'), sha256 },
        ...{ sizeBytes: Number(size), poolPath: `${field('Directory')}/${file ?? ''}` },
      };
      return [{ entry, suite: wanted.suites[0] ?? '' }];
    });
    if (files.length === 2) return files;
    throw new FastioError('PACKAGE_UNAVAILABLE', `no source package "${name}"`, 'Try another mirror.');
  });
}
