import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { writeCpio } from './cpio.js';
import { makeInitramfs } from './initramfs.js';
import { loadOrder } from './modules.js';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fastio-initramfs-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

interface Record {
  readonly mode: number;
  readonly content: string;
}

/** Reads a newc archive by the kernel's rules (Documentation/driver-api/early-userspace/buffer-format.rst). */
function readCpio(archive: Buffer): ReadonlyMap<string, Record> {
  const records = new Map<string, Record>();
  for (let at = 0; ;) {
    const header = archive.toString('latin1', at, at + 110);
    if (!header.startsWith('070701')) throw new Error(`no header at ${at}: ${header}`);
    const field = (index: number): number => parseInt(header.slice(6 + 8 * index, 14 + 8 * index), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const name = archive.toString('utf8', at + 110, at + 110 + nameSize - 1);
    if (archive[at + 110 + nameSize - 1] !== 0) throw new Error(`${name}: not terminated`);
    const data = (at + 110 + nameSize + 3) & ~3;
    if (name === 'TRAILER!!!') return records;
    records.set(name, { mode, content: archive.toString('utf8', data, data + size) });
    at = (data + size + 3) & ~3;
  }
}

it('writes what the kernel reads', () => {
  const records = readCpio(
    writeCpio([
      { type: 'directory', path: 'dev', mode: 0o755 },
      { type: 'character', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
      { type: 'file', path: 'odd', mode: 0o644, content: Buffer.from('abcde') },
      { type: 'symlink', path: 'bin/sh', mode: 0o777, target: 'busybox' },
    ]),
  );

  expect(Object.fromEntries(records)).toEqual({
    dev: { mode: 0o040755, content: '' },
    'dev/console': { mode: 0o020600, content: '' },
    odd: { mode: 0o100644, content: 'abcde' },
    'bin/sh': { mode: 0o120777, content: 'busybox' },
  });
});

async function writeIndex(dep: readonly string[], builtin: readonly string[]): Promise<void> {
  await writeFile(join(directory, 'modules.dep'), dep.map((line) => `${line}\n`).join(''));
  await writeFile(join(directory, 'modules.builtin'), builtin.map((line) => `${line}\n`).join(''));
}

const dependencies = [
  'kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko',
  'kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko',
  'kernel/drivers/net/virtio_net.ko: kernel/net/failover.ko kernel/drivers/virtio/virtio.ko',
  'kernel/fs/squashfs/squashfs.ko:',
  'kernel/drivers/char/hw_random/virtio-rng.ko:',
];

it('orders modules so that each finds what it needs, and leaves out what is built in', async () => {
  await writeIndex(dependencies, ['kernel/fs/overlayfs/overlay.ko', 'kernel/drivers/char/virtio_console.ko']);

  expect(await loadOrder(directory)).toEqual({
    always: [
      'kernel/drivers/virtio/virtio.ko',
      'kernel/drivers/virtio/virtio_ring.ko',
      'kernel/drivers/virtio/virtio_pci.ko',
      'kernel/drivers/block/virtio_blk.ko',
      'kernel/fs/squashfs/squashfs.ko',
    ],
    network: ['kernel/net/failover.ko', 'kernel/drivers/net/virtio_net.ko'],
  });
});

it('refuses a kernel that cannot mount the layers', async () => {
  await writeIndex(dependencies, ['kernel/drivers/char/virtio_console.ko']);

  await expect(loadOrder(directory)).rejects.toMatchObject({
    code: 'LOCK_INVALID',
    message: expect.stringContaining('no module overlay'),
  });
});

it('packs init, agent, busybox and the modules in loading order, the same bytes twice', async () => {
  await mkdir(join(directory, 'modules'));
  await writeFile(join(directory, 'busybox'), 'BUSYBOX');
  for (const name of ['a.ko', 'b.ko', 'net.ko'])
    await writeFile(join(directory, 'modules', name), name.toUpperCase());
  await writeFile(
    join(directory, 'modules.json'),
    JSON.stringify({ always: ['b.ko', 'a.ko'], network: ['net.ko'] }),
  );
  const parts = {
    base: directory,
    kernel: directory,
    init: Buffer.from('INIT'),
    agent: Buffer.from('AGENT'),
  };

  const archive = await makeInitramfs(parts);

  const records = readCpio(archive);
  expect(records.get('init')).toEqual({ mode: 0o100755, content: 'INIT' });
  expect(records.get('agent')).toEqual({ mode: 0o100755, content: 'AGENT' });
  expect(records.get('modules/always')?.content).toBe('b.ko\na.ko\n');
  expect(records.get('modules/network')?.content).toBe('net.ko\n');
  expect(records.get('modules/a.ko')?.content).toBe('A.KO');
  expect((await makeInitramfs(parts)).equals(archive)).toBe(true);
});
