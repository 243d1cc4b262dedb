import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { FastioError } from '../errors.js';
import { projectRoot } from '../paths.js';
import { kernels, type Arch } from '../vm.js';
import { debianArch, lockIds } from './lock.js';

const Names = z.array(z.string().regex(/^[a-z0-9][a-z0-9+.$-]+(:\$other)?$/));
const Kernel = z.strictObject({ suite: z.string(), with: Names });
const PackageFile = z.strictObject({
  suite: z.string(),
  essential: Names,
  guest: z.array(Names),
  kernel: z.strictObject({ '6.12': Kernel, '6.1': Kernel }),
  run: z.array(Names),
  build: z.array(Names),
  sources: Names,
});

/** What to ask apt for to make one lock. */
export interface Wanted {
  readonly id: string;
  readonly arch: Arch;
  readonly architectures: readonly ('arm64' | 'amd64')[];
  /** The first is preferred. */
  readonly suites: readonly string[];
  /** Arguments of `apt-get install`. */
  readonly packages: readonly string[];
  /** Lock whose packages are there already, so that this one leaves them out. */
  readonly onTopOf?: Wanted;
  /** Kernels by their suite, and which of their packages are added. */
  readonly kernels: readonly { readonly suite: string; readonly parts: 'image and headers' | 'kbuild' }[];
  /** `packages` are source packages. */
  readonly isSource?: boolean;
}

/** @throws FastioError USAGE for an unknown id, INPUT_INVALID for a bad packages.yaml. */
export async function wantedPackages(id: string): Promise<Wanted> {
  if (!lockIds.includes(id)) {
    throw new FastioError('USAGE', `no lock file "${id}"`, `Choose one of: ${lockIds.join(', ')}.`);
  }
  const file = await readPackageFile();
  const arch: Arch = id.endsWith('-arm64') ? 'arm64' : 'x86_64';
  const expand = (names: readonly string[]): string[] => names.map((name) => expandName(name, arch));
  const common = {
    id,
    arch,
    architectures: [debianArch(arch)],
    suites: [...new Set([file.suite, ...Object.values(file.kernel).map(({ suite }) => suite)])],
    kernels: [],
  } as const;
  const userland = expand([...file.essential, ...file.guest.flat()]);
  if (id === 'sources') {
    return { ...common, suites: [file.suite], packages: file.sources, isSource: true };
  }
  if (id.startsWith('guest-')) return { ...common, packages: userland };
  if (id.startsWith('run-')) return { ...common, packages: expand(file.run.flat()) };
  if (id.startsWith('build-')) {
    return {
      ...common,
      architectures: arch === 'arm64' ? ['arm64', 'amd64'] : ['amd64', 'arm64'],
      packages: expand(file.build.flat()),
      kernels: Object.values(file.kernel).map(({ suite }) => ({ suite, parts: 'kbuild' })),
    };
  }
  const series = kernels.find((candidate) => id === `kernel-${candidate}-${arch}`) ?? kernels[0];
  return {
    ...common,
    packages: [...userland, ...expand(file.kernel[series].with)],
    kernels: [{ suite: file.kernel[series].suite, parts: 'image and headers' }],
    onTopOf: { ...common, id: `guest-${arch}`, packages: userland },
  };
}

async function readPackageFile(): Promise<z.infer<typeof PackageFile>> {
  const path = join(projectRoot, 'vm/image/packages.yaml');
  const result = PackageFile.safeParse(parse(await readFile(path, 'utf8')));
  if (result.success) return result.data;
  throw new FastioError(
    'INPUT_INVALID',
    `vm/image/packages.yaml: ${z.prettifyError(result.error)}`,
    'Correct the file; its comments say what each key holds.',
  );
}

function expandName(name: string, arch: Arch): string {
  const other: Arch = arch === 'arm64' ? 'x86_64' : 'arm64';
  return name
    .replaceAll('$arch', debianArch(arch))
    .replaceAll('$other', debianArch(other))
    .replaceAll('$cross', other === 'arm64' ? 'aarch64-linux-gnu' : 'x86-64-linux-gnu');
}
