import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { FastioError } from '../vm/errors.js';
import { cachePath, makeOnce } from '../vm/image/cache.js';
import { fetchPackages } from '../vm/image/fetch.js';
import { readLock } from '../vm/image/lock.js';
import { unpackDebs } from '../vm/image/unpack.js';
import type { Work } from '../vm/image/work.js';
import type { Arch } from '../vm/vm.js';
import type { Placed } from './artifacts.js';

const triplets: Readonly<Record<Arch, string>> = { arm64: 'aarch64-linux-gnu', x86_64: 'x86_64-linux-gnu' };
const loaders: Readonly<Record<Arch, string>> = {
  arm64: 'usr/lib/ld-linux-aarch64.so.1',
  x86_64: 'usr/lib64/ld-linux-x86-64.so.2',
};

/** Programs of the guest's own packages, with all they need, for guests that have no userland: those that have a job. */
export interface Portable {
  /** Of the directory that they get beside bin/. */
  readonly name: string;
  /** Debian's packages of the programs and, as `ldd` lists them, of their libraries. */
  readonly packages: readonly string[];
  /** Their shared libraries, as the names of the files begin: up to `.so`. */
  readonly libraries: readonly string[];
  /** By the name of the script that runs it: the binary among the unpacked packages. */
  readonly programs: Readonly<Record<string, string>>;
  /** Other files of the packages. */
  readonly files: readonly string[];
  /** Lines of shell before a program starts; "$here" is the directory. */
  readonly prepare: readonly string[];
}

/** Bump when the same packages are laid out in another way. */
const layout = 2;

/**
 * Lays programs out with their libraries: `bin/NAME` is a script that runs the binary of the guest's lock through the
 * loader beside it.
 * @throws FastioError LOCK_INVALID when the guest's lock lacks a package.
 */
export async function portablePrograms(
  portable: Portable,
  arch: Arch,
  work: Work,
): Promise<readonly Placed[]> {
  const lock = await readLock(`guest-${arch}`);
  const packages = lock.packages.filter(({ name }) => portable.packages.includes(name));
  if (packages.length !== portable.packages.length) {
    throw new FastioError(
      'LOCK_INVALID',
      `${lock.id}.lock: found ${packages.length} packages of ${portable.name}, expected ${portable.packages.length}`,
      'Correct the list in toolchain/portable-programs.ts after a change of the lock.',
    );
  }
  const key = createHash('sha256')
    .update(JSON.stringify([layout, portable, packages.map(({ sha256 }) => sha256)]))
    .digest('hex');
  const directory = join(await cachePath('servers'), `${arch}-${key.slice(0, 16)}`);
  await makeOnce(directory, work.signal, async (temp) => {
    const debOf = await fetchPackages({ ...lock, packages }, work);
    work.report({ kind: 'stage', name: 'unpack', detail: `${portable.name} for ${arch}` });
    const root = join(temp, 'root');
    await unpackDebs(packages.map(debOf), root, work.signal);
    await layOutOf(portable, arch, root, temp);
    await rm(root, { recursive: true });
  });
  const below = ['bin', portable.name];
  const placed = below.map(async (part) =>
    (await readdir(join(directory, part), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name))
      .map((from) => ({ from, to: relative(directory, from) })),
  );
  return (await Promise.all(placed)).flat();
}

async function layOutOf(portable: Portable, arch: Arch, root: string, to: string): Promise<void> {
  const own = join(to, portable.name);
  await mkdir(join(own, 'lib'), { recursive: true });
  await mkdir(join(to, 'bin'));
  await copyLibraries(join(root, 'usr/lib', triplets[arch]), join(own, 'lib'), portable.libraries);
  await copyFile(await realpath(join(root, loaders[arch])), join(own, 'lib/ld.so'));
  for (const path of portable.files) {
    await mkdir(dirname(join(own, path)), { recursive: true });
    await copyFile(await realpath(join(root, path)), join(own, path));
  }
  for (const [name, path] of Object.entries(portable.programs)) {
    await copyFile(join(root, path), join(own, `${name}-binary`));
    const lines = [
      '#!/bin/sh',
      `here=\${0%/*}/../${portable.name}`,
      ...portable.prepare,
      `exec "$here/lib/ld.so" --library-path "$here/lib" --argv0 ${name} "$here/${name}-binary" "$@"`,
    ];
    await writeFile(join(to, 'bin', name), lines.map((line) => `${line}\n`).join(''), { mode: 0o755 });
  }
}

/** Under the names that programs ask for, which end in one number. */
async function copyLibraries(from: string, to: string, names: readonly string[]): Promise<void> {
  for (const name of await readdir(from)) {
    const library = /^(.+)\.so\.\d+$/.exec(name)?.[1];
    if (library !== undefined && names.includes(library)) {
      await copyFile(await realpath(join(from, name)), join(to, name));
    }
  }
}
