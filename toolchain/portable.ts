import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FastioError } from '../vm/errors.js';
import { cachePath, makeOnce } from '../vm/image/cache.js';
import { fetchPackages } from '../vm/image/fetch.js';
import { readLock } from '../vm/image/lock.js';
import { unpackDebs } from '../vm/image/unpack.js';
import type { Work } from '../vm/image/work.js';
import type { Arch } from '../vm/vm.js';
import type { Placed } from './artifacts.js';
import { redisServers } from './redis.js';

/** What the servers are linked against, as `ldd` lists it, by Debian's packages. */
const libraries = [
  ...['libatomic1', 'libc6', 'libcap2', 'libgcc-s1', 'libjemalloc2', 'liblzf1', 'libssl3t64', 'libstdc++6'],
  ...['libsystemd0', 'libzstd1', 'zlib1g'],
];
const sonames =
  /^(ld-linux-.*|lib(atomic|c|cap|crypto|gcc_s|jemalloc|lzf|m|ssl|stdc\+\+|systemd|z|zstd))\.so\.[0-9.]+$/;
const triplets: Readonly<Record<Arch, string>> = { arm64: 'aarch64-linux-gnu', x86_64: 'x86_64-linux-gnu' };
const loaders: Readonly<Record<Arch, string>> = {
  arm64: 'usr/lib/ld-linux-aarch64.so.1',
  x86_64: 'usr/lib64/ld-linux-x86-64.so.2',
};
/** Bump when the same packages are laid out in another way. */
const layout = 1;

/**
 * Debian's Valkey and Redis with their libraries, for guests that have no userland of their own: `bin/redis-server` is a
 * script that runs the binary of the guest's lock through the loader beside it.
 */
export async function portableServers(arch: Arch, work: Work): Promise<readonly Placed[]> {
  const lock = await readLock(`guest-${arch}`);
  const names = new Set([...libraries, ...redisServers.map((server) => `${server}-tools`)]);
  const packages = lock.packages.filter(({ name }) => names.has(name));
  if (packages.length !== names.size) {
    throw new FastioError(
      'LOCK_INVALID',
      `${lock.id}.lock: found ${packages.length} packages of the servers, expected ${names.size}`,
      'Correct toolchain/portable.ts after a change of the lock.',
    );
  }
  const key = createHash('sha256')
    .update(JSON.stringify([layout, packages.map(({ sha256 }) => sha256)]))
    .digest('hex');
  const directory = join(await cachePath('servers'), `${arch}-${key.slice(0, 16)}`);
  await makeOnce(directory, work.signal, async (temp) => {
    const debOf = await fetchPackages({ ...lock, packages }, work);
    work.report({ kind: 'stage', name: 'unpack', detail: `servers for ${arch}` });
    const root = join(temp, 'root');
    await unpackDebs(packages.map(debOf), root, work.signal);
    await mkdir(join(temp, 'lib'));
    await copyLibraries(join(root, 'usr/lib', triplets[arch]), join(temp, 'lib'));
    await copyFile(await realpath(join(root, loaders[arch])), join(temp, 'lib/ld.so'));
    for (const server of redisServers) {
      // The one binary is all of the programs; its first argument's name says which.
      await copyFile(join(root, `usr/bin/${server}-check-rdb`), join(temp, `${server}-binary`));
      await writeFile(join(temp, `${server}-server`), wrapper(server));
      await chmod(join(temp, `${server}-server`), 0o755);
    }
    await rm(root, { recursive: true });
  });
  const shared = (await readdir(join(directory, 'lib'))).map((name) => `lib/${name}`);
  return [
    ...redisServers.map((server) => ({
      from: join(directory, `${server}-server`),
      to: `bin/${server}-server`,
    })),
    ...[...redisServers.map((server) => `${server}-binary`), ...shared].map((path) => ({
      from: join(directory, path),
      to: `redis/${path}`,
    })),
  ];
}

async function copyLibraries(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) {
    if (sonames.test(name)) await copyFile(await realpath(join(from, name)), join(to, basename(name)));
  }
}

function wrapper(server: string): string {
  return [
    '#!/bin/sh',
    'here=${0%/*}/../redis',
    `exec "$here/lib/ld.so" --library-path "$here/lib" --argv0 ${server}-server "$here/${server}-binary" "$@"`,
    '',
  ].join('\n');
}
