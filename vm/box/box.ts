import { copyFile, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { exists, tempBeside } from '../image/cache.js';
import { writeCpio } from '../image/cpio.js';
import { explainFull, requireDisk } from '../image/disk.js';
import { guestImage, type GuestImage, type ImageSpec } from '../image/image.js';
import type { LayerEntry } from '../image/merge.js';
import type { MirrorOptions } from '../image/mirrors.js';
import { squashPackages } from '../image/squash.js';
import { writeTar } from '../image/tar.js';
import { toolCommand, toolsRoot } from '../image/tools.js';
import type { Work } from '../image/work.js';
import { FastioError } from '../errors.js';
import { runOrThrow } from '../exec.js';
import { projectRoot } from '../paths.js';
import { writeQcow2 } from './qcow2.js';

/** What a box holds beside the guest's image. */
export interface BoxParts {
  /** Kernel modules for the image's kernel, loaded at boot in this order of names. */
  readonly modules: readonly string[];
  /** Programs for the guest; they are in /opt/box/bin. */
  readonly programs: readonly string[];
}

export interface Box {
  readonly path: string;
  readonly image: string;
  readonly arch: ImageSpec['arch'];
  readonly kernelRelease: string;
  readonly bytes: number;
}

/** Disks in the order in which the guest's init expects them: vda, vdb, vdc. */
const disks = ['base', 'kernel', 'box'] as const;
/** Scripts of the box's own disk, and whether they are programs. */
const scripts: readonly (readonly [name: string, mode: number])[] = [
  ['setup', 0o755],
  ['dhcp', 0o755],
  ['shutdown', 0o755],
  ['inittab', 0o644],
];
const privateKey = 'id_rsa';
/** Dates the box's own files: nothing in it depends on when it was made. */
const epochSeconds = 0;

/**
 * Writes a Vagrant box for the libvirt provider from our own image: three qcow2 disks, the kernel that is started with
 * them, and a key that was made for this box and lets in whoever has the box.
 * @param out file to write; it is not replaced.
 * @throws FastioError USAGE when `out` is there already; DISK_FULL; what building the image throws.
 */
export async function makeBox(
  spec: ImageSpec,
  parts: BoxParts,
  out: string,
  work: Work & MirrorOptions,
): Promise<Box> {
  const path = resolve(out);
  if (await exists(path)) {
    throw new FastioError('USAGE', `${out} is there already`, 'Remove it, or name another file with --out.');
  }
  if (!(await exists(dirname(path)))) {
    throw new FastioError('USAGE', `no directory ${dirname(path)}`, 'Make it, or name another file.');
  }
  const image = await guestImage(spec, work);
  const temp = tempBeside(path);
  try {
    await mkdir(temp);
    await requireDisk(temp, 2 * (await sizes([image.base, image.kernelLayer])), 'the box');
    work.report({ kind: 'stage', name: 'box', detail: `${image.id}, Linux ${image.kernelRelease}` });
    await fillBox(image, parts, temp, work);
    await packBox(temp, join(temp, 'box'), work.signal);
    await rename(join(temp, 'box'), path);
  } catch (error) {
    throw explainFull(error, path);
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
  const { arch, kernelRelease, id } = image;
  return { path, image: id, arch, kernelRelease, bytes: await sizes([path]) };
}

async function sizes(paths: readonly string[]): Promise<number> {
  const all = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  return all.reduce((sum, size) => sum + size, 0);
}

/** Files of a box, in the order in which they are packed. */
const boxFiles = [
  'metadata.json',
  'Vagrantfile',
  privateKey,
  'vmlinuz',
  'initrd',
  ...disks.map((name) => `${name}.qcow2`),
];

async function fillBox(
  image: GuestImage,
  parts: BoxParts,
  directory: string,
  work: Work & MirrorOptions,
): Promise<void> {
  const { signal } = work;
  const root = await toolsRoot('run', work);
  const key = join(directory, privateKey);
  // RSA as PEM is what every version of Vagrant reads; net-ssh 7.0, Debian 12's, fails with ECDSA under OpenSSL 3.
  const keygen = ['-q', '-t', 'rsa', '-b', '3072', '-m', 'PEM', '-N', '', '-C', 'box', '-f', key];
  await runOrThrow(toolCommand(root, 'ssh-keygen', keygen), { signal });
  const own = join(directory, 'box.squashfs');
  await squashPackages(
    {
      ...{ debs: [], keep: () => true, capture: new Set(), replaced: new Set(), epochSeconds },
      extra: () => ownFiles(parts, `${key}.pub`),
    },
    own,
    { root, signal },
  );
  const raw = { base: image.base, kernel: image.kernelLayer, box: own };
  await writeQcow2(
    disks.map((name) => ({ raw: raw[name], qcow2: join(directory, `${name}.qcow2`) })),
    image.arch,
    work,
  );
  await copyFile(image.kernel, join(directory, 'vmlinuz'));
  // Of two archives the later one's files win: this is what the guest's init starts instead of the agent.
  const start = await readFile(join(projectRoot, 'vm/box/start'));
  const instead = writeCpio([{ type: 'file', path: 'agent', mode: 0o755, content: start }]);
  await writeFile(join(directory, 'initrd'), Buffer.concat([await readFile(image.initrd), instead]));
  await copyFile(join(projectRoot, 'vm/box/Vagrantfile'), join(directory, 'Vagrantfile'));
  const metadata = {
    provider: 'libvirt',
    architecture: image.arch,
    disks: disks.map((name) => ({ path: `${name}.qcow2`, name, format: 'qcow2' })),
  };
  await writeFile(join(directory, 'metadata.json'), `${JSON.stringify(metadata, undefined, 2)}\n`);
}

/** What is on the box's own disk, /opt/box in the guest. */
async function* ownFiles(parts: BoxParts, publicKey: string): AsyncGenerator<LayerEntry> {
  const file = async (from: string, path: string, mode: number): Promise<LayerEntry> => ({
    ...{ type: 'file', path, mode },
    content: await readFile(from),
  });
  for (const [name, mode] of scripts) yield await file(join(projectRoot, 'vm/box', name), name, mode);
  yield await file(publicKey, 'authorized_keys', 0o644);
  for (const path of [...parts.modules].sort()) yield await file(path, `modules/${basename(path)}`, 0o644);
  for (const path of parts.programs) yield await file(path, `bin/${basename(path)}`, 0o755);
}

/** Packs a tar archive, uncompressed: the disks' contents are compressed already. */
async function packBox(directory: string, archive: string, signal: AbortSignal): Promise<void> {
  const tar = writeTar();
  const writing = pipeline(tar.stream, createWriteStream(archive), { signal });
  const adding = async (): Promise<void> => {
    for (const name of boxFiles) {
      const path = join(directory, name);
      const { size } = await stat(path);
      const header = { name, size, mode: 0o644, mtime: new Date(epochSeconds * 1_000) };
      await tar.add(header, createReadStream(path) as AsyncIterable<Buffer>);
    }
    tar.end();
  };
  await Promise.all([writing, adding()]);
}
