import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommandEnd, CommandStreams } from '../channel/commands.js';
import { pullFiles, pushFiles } from '../channel/files.js';
import { FastioError } from '../errors.js';
import type { ExecOptions, ExecResult, KernelTrouble, Vm, VmInfo, WaitOptions } from '../vm.js';
import { deadline, orAbort } from '../wait.js';
import type { KeeperLink } from './keeper-link.js';
import { slowness } from './slowness.js';

const defaultTimeoutMs = 60_000;
/** Output of one command that is collected when the caller takes no chunks, per stream. */
const collectedMax = 64 * 1024 * 1024;
/** What a shell says for a command that is not there, or cannot be run. */
const statusNotFound = 127;
const statusNotRun = 126;
const enoent = 2;
const eagain = 11;

/** Copies a host file or directory to a path in the guest. */
export type PushFiles = (hostPath: string, guestPath: string, signal: AbortSignal) => Promise<void>;

/** What depends on where the keeper is. */
export interface Holding {
  /** What disposing the guest does besides hanging up. */
  readonly dispose: () => Promise<void>;
  /** For a keeper whose directory this process cannot see; without it, the transfer disk's file is filled. */
  readonly push?: PushFiles;
}

/** The `Vm` of a guest that a keeper holds. */
export function createVm(name: string, info: VmInfo, link: KeeperLink, holding: Holding): Vm {
  const { channel, died } = link;
  const pushHere: PushFiles = (hostPath, guestPath, signal) =>
    pushFiles(hostPath, guestPath, join(info.directory, 'transfer'), { channel, signal });
  const { dispose, push = pushHere } = holding;

  /** Runs work under the caller's signal, a deadline and the guest's life. */
  async function within<T>(
    what: string,
    { signal, timeoutMs = defaultTimeoutMs }: WaitOptions,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    died.throwIfAborted();
    const limitMs = timeoutMs * slowness(info.accel);
    const late = new FastioError(
      'TIMEOUT',
      `${what} did not end within ${Math.round(limitMs / 1_000)} s`,
      'Allow it more time, or look at what it waits for.',
    );
    const signals = [died, deadline(limitMs, late), ...(signal === undefined ? [] : [signal])];
    try {
      return await work(AbortSignal.any(signals));
    } catch (error) {
      // A guest that does not answer either is the better explanation.
      if (error === late) await channel.call('diagnose', null, died).catch(() => undefined);
      died.throwIfAborted();
      throw error;
    }
  }

  return {
    name,
    info,
    died,
    exec: (argv, options = {}) =>
      within(`'${argv.join(' ').slice(0, 200)}'`, options, (signal) => execWith(link, argv, options, signal)),
    push: (hostPath, guestPath, options = {}) =>
      within(`copying ${hostPath} into the guest`, options, (signal) => push(hostPath, guestPath, signal)),
    pull: (guestPath, hostPath, options = {}) =>
      within(`copying ${guestPath} from the guest`, options, (signal) =>
        pullFiles(guestPath, hostPath, { channel, signal }),
      ),
    async kernelLog(options = {}) {
      const text = died.aborted
        ? await readFile(join(info.directory, 'console.log'), 'utf8')
        : (await this.exec(['dmesg'], options)).stdout;
      return text.trimEnd().split('\n');
    },
    // The keeper answers this even for a guest that is dead.
    kernelTrouble: async (since = 0) =>
      (await channel.call('trouble', { since }, AbortSignal.timeout(defaultTimeoutMs))) as KernelTrouble,
    [Symbol.asyncDispose]: async () => {
      await dispose();
      channel.close();
    },
  };
}

async function execWith(
  { channel }: KeeperLink,
  argv: readonly string[],
  options: ExecOptions,
  signal: AbortSignal,
): Promise<ExecResult> {
  const stdout = collector(options.onStdout);
  const stderr = collector(options.onStderr);
  const streams: CommandStreams = {
    argv,
    signal,
    onStdout: stdout.take,
    onStderr: stderr.take,
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.stdin === undefined ? {} : { stdin: chunksOf(options.stdin) }),
  };
  const status = statusOf(await channel.run(streams), (text) => {
    stderr.take(Buffer.from(`${text}\n`));
  });
  return { status, stdout: stdout.text(), stderr: stderr.text() };
}

interface Collector {
  readonly take: (chunk: Buffer) => undefined;
  readonly text: () => string;
}

function collector(callback: ExecOptions['onStdout']): Collector {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return {
    take(chunk) {
      if (callback !== undefined) {
        callback(chunk);
        return;
      }
      bytes += chunk.length;
      if (bytes > collectedMax) {
        throw new FastioError(
          'INPUT_INVALID',
          `a command printed more than ${collectedMax} bytes`,
          'Take its output as it comes (onStdout), or write it to a file and pull that.',
        );
      }
      chunks.push(chunk);
    },
    text: () => Buffer.concat(chunks).toString(),
  };
}

async function* chunksOf(stdin: NonNullable<ExecOptions['stdin']>): AsyncGenerator<Uint8Array> {
  if (typeof stdin === 'string') yield Buffer.from(stdin);
  else if (stdin instanceof Uint8Array) yield stdin;
  else yield* stdin;
}

/** As a shell reports it; what kept a command from running is printed where a shell would print it. */
function statusOf(end: CommandEnd, complain: (text: string) => void): number {
  switch (end.kind) {
    case 'status':
      return end.status;
    case 'signalled':
      return 128 + end.signal;
    case 'notRun':
      if (end.errno === eagain) {
        throw new FastioError('GUEST_BUSY', `the guest: ${end.text}`, 'Wait for other commands to end.');
      }
      complain(end.text);
      return end.errno === enoent ? statusNotFound : statusNotRun;
  }
}

/** Asks the keeper to end the guest, and waits until nothing is left of it. */
export async function stopGuest({ channel }: KeeperLink, signal: AbortSignal): Promise<void> {
  await channel.call('stop', null, signal);
  if (channel.closed.aborted) return;
  // An idle channel does not keep its process alive, and this one has nothing more to say.
  const alive = setInterval(() => undefined, 60_000);
  try {
    await orAbort(
      new Promise<void>((resolve) => {
        channel.closed.addEventListener('abort', () => {
          resolve();
        });
      }),
      signal,
    );
  } finally {
    clearInterval(alive);
  }
}
