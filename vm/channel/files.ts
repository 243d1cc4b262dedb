import { spawn } from 'node:child_process';
import { open, mkdir, rename, rm, stat, truncate } from 'node:fs/promises';
import { createReadStream, type Stats } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { errnoOf, FastioError } from '../errors.js';
import type { CommandChannel } from './commands.js';

/** Size of the sparse file behind the transfer disk: the most that one push can carry, in bytes. */
export const transferBytes = 64 * 1024 ** 3;
/** Reads past the guest's page cache come in whole sectors. */
const sectorBytes = 4_096;

/**
 * What the guest runs for a push. Its page cache knows the transfer disk's older contents, so they are dropped
 * (tar reads ahead, which is four times faster than a pipe) or gone past (dd). Arguments: destination; for a file
 * also padded bytes, bytes and mode.
 */
const takeDirectory = `set -e
mkdir -p -- "$1"
blockdev --flushbufs /dev/vdc
tar -x -b 2048 --no-same-owner -C "$1" -f /dev/vdc
blockdev --flushbufs /dev/vdc`;
const takeFile = `set -e
[ ! -d "$1" ] || { echo "$1 is a directory" >&2; exit 21; }
mkdir -p -- "$(dirname -- "$1")"
new="$1.fastio-new-$$"
trap 'rm -f -- "$new"' EXIT
dd if=/dev/vdc of="$new" bs=1M iflag=direct,count_bytes,fullblock status=none count="$2"
truncate -s "$3" -- "$new"
chmod "$4" -- "$new"
mv -fT -- "$new" "$1"
trap - EXIT`;

/** What the guest runs for a pull: one line that says what it is, then the bytes. */
const giveAny = `set -e
if [ -d "$1" ]; then echo directory; exec tar -c -b 128 -C "$1" .
elif [ -f "$1" ]; then stat -L -c 'file %a' -- "$1"; exec cat -- "$1"
elif [ -e "$1" ]; then echo "$1 is neither a file nor a directory" >&2; exit 22
else echo "$1: no such file or directory" >&2; exit 20
fi`;

export interface FileWork {
  readonly channel: CommandChannel;
  readonly signal: AbortSignal;
}

/** Copies a host file or directory into the guest by way of the transfer disk, whose file is `transfer`. */
export async function pushFiles(
  hostPath: string,
  guestPath: string,
  transfer: string,
  { channel, signal }: FileWork,
): Promise<void> {
  const source = await statSource(hostPath);
  await channel.call('lockTransfer', null, signal);
  try {
    const bytes = source.isDirectory()
      ? await fill(transfer, signal, tarOf(hostPath, signal))
      : await fill(transfer, signal, createReadStream(hostPath, { signal }));
    const padded = `${Math.ceil(bytes / sectorBytes) * sectorBytes}`;
    const mode = (source.mode & 0o7777).toString(8);
    const argv = source.isDirectory()
      ? ['sh', '-c', takeDirectory, 'push', guestPath]
      : ['sh', '-c', takeFile, 'push', guestPath, padded, `${bytes}`, mode];
    let errors = '';
    const end = await channel.run({
      argv,
      signal,
      onStdout: () => undefined,
      onStderr: (chunk) => void (errors = (errors + chunk.toString()).slice(-4_096)),
    });
    if (end.kind !== 'status' || end.status !== 0) throw pushFailed(hostPath, guestPath, errors);
  } finally {
    // Give the disk space back; the size has to stay what QEMU saw.
    await truncate(transfer, 0);
    await truncate(transfer, transferBytes);
    if (!channel.closed.aborted) await channel.call('unlockTransfer', null, AbortSignal.timeout(10_000));
  }
}

async function statSource(hostPath: string): Promise<Stats> {
  let found: Stats;
  try {
    found = await stat(hostPath);
  } catch (error) {
    throw new FastioError(
      'INPUT_INVALID',
      `cannot copy ${hostPath}: ${errnoOf(error) ?? String(error)}`,
      'Name a file or directory that is there.',
      { cause: error },
    );
  }
  if (found.isFile() || found.isDirectory()) return found;
  throw new FastioError(
    'INPUT_INVALID',
    `cannot copy ${hostPath}: neither a file nor a directory`,
    'Name a file or directory.',
  );
}

/** Writes a stream to the transfer file and returns its length. */
async function fill(
  transfer: string,
  signal: AbortSignal,
  source: AsyncIterable<Uint8Array>,
): Promise<number> {
  const file = await open(transfer, 'r+');
  let bytes = 0;
  try {
    for await (const chunk of source) {
      signal.throwIfAborted();
      if (bytes + chunk.length > transferBytes) {
        throw new FastioError(
          'INPUT_INVALID',
          `more than ${transferBytes} bytes to copy`,
          'Copy it in parts.',
        );
      }
      await file.write(chunk, 0, chunk.length, bytes);
      bytes += chunk.length;
    }
    return bytes;
  } catch (error) {
    if (errnoOf(error) !== 'ENOSPC') throw error;
    throw new FastioError(
      'DISK_FULL',
      `no space left after ${bytes} bytes on the way into the guest: ${transfer}`,
      'Free some space, or set FASTIO_RUN_DIR to a directory on a larger disk.',
      { cause: error },
    );
  } finally {
    await file.close();
  }
}

/** The directory's contents as tar writes them. Throws at the end when tar failed. */
async function* tarOf(directory: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const tar = spawn('tar', ['-c', '-b', '2048', '-C', resolve(directory), '.'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  });
  const ended = tarEnd(tar, `packing ${directory}`);
  ended.catch(() => undefined);
  yield* tar.stdout as AsyncIterable<Uint8Array>;
  await ended;
}

function tarEnd(tar: ReturnType<typeof spawn>, doing: string): Promise<void> {
  let errors = '';
  tar.stderr?.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-4_096)));
  return new Promise((done, reject) => {
    tar.once('error', reject);
    tar.once('close', (status) => {
      if (status === 0) done();
      else if (errors.includes('No space left')) reject(hostFull(doing, errors));
      else
        reject(new FastioError('INPUT_INVALID', `${doing}: ${errors.trimEnd()}`, 'Correct what tar names.'));
    });
  });
}

function hostFull(doing: string, errors: string): FastioError {
  return new FastioError('DISK_FULL', `${doing}: ${errors.trimEnd()}`, 'Free some space on this machine.');
}

function pushFailed(hostPath: string, guestPath: string, errors: string): FastioError {
  const said = errors.trimEnd();
  // tar says only that it could not write all of a block.
  if (/No space left on device|Wrote only \d+ of/.test(said)) {
    return new FastioError(
      'DISK_FULL',
      `the guest has no room for ${hostPath}: its files live in its memory`,
      'Give the guest more --memory, or remove files in it.',
      { detail: said.split('\n').slice(-5) },
    );
  }
  return new FastioError(
    'INPUT_INVALID',
    `cannot write ${guestPath} in the guest: ${said}`,
    'Choose another destination.',
  );
}

/** Copies a guest file or directory to the host. A file appears whole or not at all. */
export async function pullFiles(guestPath: string, hostPath: string, work: FileWork): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([work.signal, stop.signal]);
  let head = '';
  let sink: Sink | undefined;
  let errors = '';
  const temp = `${hostPath}.fastio-new-${process.pid}`;
  await mkdir(dirname(resolve(hostPath)), { recursive: true });
  try {
    const end = await work.channel.run({
      argv: ['sh', '-c', giveAny, 'pull', guestPath],
      signal,
      onStdout: async (chunk) => {
        if (sink !== undefined) {
          await sink.write(chunk);
          return;
        }
        head += chunk.toString('latin1');
        const cut = head.indexOf('\n');
        if (cut < 0) return;
        const [kind, mode = '644'] = head.slice(0, cut).split(' ');
        sink = kind === 'directory' ? await unpackInto(hostPath, signal) : await fileAt(temp, hostPath, mode);
        await sink.write(Buffer.from(head.slice(cut + 1), 'latin1'));
      },
      onStderr: (chunk) => void (errors = (errors + chunk.toString()).slice(-4_096)),
    });
    if (end.kind !== 'status' || end.status !== 0 || sink === undefined) {
      throw new FastioError(
        'INPUT_INVALID',
        `cannot copy ${guestPath} from the guest: ${errors.trimEnd()}`,
        'Name a file or directory of the guest.',
      );
    }
    await sink.finish();
  } catch (error) {
    stop.abort(error);
    await sink?.drop();
    if (errnoOf(error) === 'ENOSPC') throw hostFull(`copying ${guestPath} to ${hostPath}`, 'no space left');
    throw error;
  }
}

interface Sink {
  write(chunk: Buffer): Promise<void>;
  finish(): Promise<void>;
  drop(): Promise<void>;
}

async function fileAt(temp: string, path: string, mode: string): Promise<Sink> {
  const file = await open(temp, 'w', Number.parseInt(mode, 8));
  return {
    write: async (chunk) => {
      await file.writeFile(chunk);
    },
    finish: async () => {
      await file.chmod(Number.parseInt(mode, 8));
      await file.close();
      await rename(temp, path);
    },
    drop: async () => {
      await file.close().catch(() => undefined);
      await rm(temp, { force: true });
    },
  };
}

async function unpackInto(directory: string, signal: AbortSignal): Promise<Sink> {
  await mkdir(directory, { recursive: true });
  const tar = spawn('tar', ['-x', '--no-same-owner', '-C', resolve(directory)], {
    stdio: ['pipe', 'ignore', 'pipe'],
    signal,
  });
  // tar leaves at the archive's end and not at the padding after it; what it thinks of the archive, it says by its end.
  tar.stdin.on('error', () => undefined);
  const ended = tarEnd(tar, `unpacking into ${directory}`);
  ended.catch(() => undefined);
  return {
    write: (chunk) => Promise.race([writeTo(tar.stdin, chunk), ended]),
    finish: async () => {
      tar.stdin.end();
      await ended;
    },
    drop: async () => {
      tar.kill('SIGKILL');
      await ended.catch(() => undefined);
    },
  };
}

/** What a stream says whose reader has left. */
const readerGone = new Set(['EPIPE', 'ERR_STREAM_DESTROYED']);

/** Resolves when the stream wants more, or nobody does. */
function writeTo(stream: Writable, chunk: Buffer): Promise<void> {
  return new Promise((done, reject) => {
    stream.write(chunk, (error) => {
      if (error === null || error === undefined || readerGone.has(errnoOf(error) ?? '')) done();
      else reject(error);
    });
  });
}
