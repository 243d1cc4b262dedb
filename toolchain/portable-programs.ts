import type { Work } from '../vm/image/work.js';
import type { Arch } from '../vm/vm.js';
import type { Placed } from './artifacts.js';
import type { Portable } from './portable.js';
import { portablePrograms } from './portable.js';
import { redisServers } from './redis.js';

/** What all of them are linked against. */
const common = {
  packages: ['libc6', 'libgcc-s1', 'libssl3t64', 'libstdc++6', 'libzstd1', 'zlib1g'],
  libraries: [
    'ld-linux-aarch64',
    'ld-linux-x86-64',
    'libc',
    'libcrypto',
    'libgcc_s',
    'libm',
    'libssl',
    'libstdc++',
    'libz',
    'libzstd',
  ],
} as const;

const servers: Portable = {
  name: 'redis',
  packages: [
    ...common.packages,
    ...['libatomic1', 'libcap2', 'libjemalloc2', 'liblzf1', 'libsystemd0'],
    ...redisServers.map((server) => `${server}-tools`),
  ],
  libraries: [...common.libraries, 'libatomic', 'libcap', 'libjemalloc', 'liblzf', 'libsystemd'],
  // One binary is server and checkers; its first argument's name says which.
  programs: Object.fromEntries(
    redisServers.flatMap((server) => [
      [`${server}-server`, `usr/bin/${server}-check-rdb`],
      [`${server}-benchmark`, `usr/bin/${server}-benchmark`],
    ]),
  ),
  files: [],
  prepare: [],
};

/** Scripts that Debian's Node reads at their place when it starts, instead of having them built in. */
const nodeScripts = [
  'acorn/dist/acorn.js',
  'acorn-walk/dist/walk.js',
  'cjs-module-lexer/dist/lexer.js',
  'cjs-module-lexer/lexer.js',
  'minimatch/dist/cjs/index.bundle.js',
  'undici/undici-fetch.js',
].map((path) => `usr/share/nodejs/${path}`);

const node: Portable = {
  name: 'node',
  packages: [
    ...common.packages,
    ...['libbrotli1', 'libcares2', 'libicu76', 'libnghttp2-14', 'libnode115', 'libuv1t64', 'nodejs'],
    ...['node-acorn', 'node-cjs-module-lexer', 'node-minimatch', 'node-undici'],
  ],
  libraries: [
    ...common.libraries,
    ...[
      'libbrotlicommon',
      'libbrotlidec',
      'libbrotlienc',
      'libcares',
      'libicudata',
      'libicui18n',
      'libicuuc',
    ],
    ...['libnghttp2', 'libnode', 'libuv'],
  ],
  programs: { node: 'usr/bin/node' },
  files: nodeScripts,
  prepare: [
    '[ -e /usr/share/nodejs ] || { mkdir -p /usr/share && ln -s "$here/usr/share/nodejs" /usr/share/nodejs; }',
  ],
};

/** Debian's Valkey and Redis, and their benchmark tools. */
export const portableServers = (arch: Arch, work: Work): Promise<readonly Placed[]> =>
  portablePrograms(servers, arch, work);

/** Debian's Node. */
export const portableNode = (arch: Arch, work: Work): Promise<readonly Placed[]> =>
  portablePrograms(node, arch, work);
