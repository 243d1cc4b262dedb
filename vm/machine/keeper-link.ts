import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { Socket, connect } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { openChannel, type CommandChannel } from '../channel/commands.js';
import { errnoOf, FastioError } from '../errors.js';
import { projectRoot } from '../paths.js';
import { deadline, orAbort } from '../wait.js';
import { socketName } from './directory.js';
import { decodeError } from './plan.js';

/** A client's end of a keeper. */
export interface KeeperLink {
  readonly channel: CommandChannel;
  /** Aborts with the reason when the guest, or its keeper, is no more. */
  readonly died: AbortSignal;
}

/** The keeper this process started. */
export interface OwnedKeeper extends KeeperLink {
  readonly pid: number;
  /** Hangs up, which ends the guest unless it was released, and waits until the keeper has cleaned up. */
  end(): Promise<void>;
}

/** Enough for a keeper that has to kill QEMU and remove a directory, on a busy machine; in milliseconds. */
const cleanUpMs = 20_000;

/** A client's end over a stream that leads to a keeper. */
export function openLink(stream: Duplex, closedReason: () => Error): KeeperLink {
  const died = new AbortController();
  const channel = openChannel(stream, {
    closedReason,
    decodeError,
    // The only news is that the guest died.
    onNews: (news) => {
      died.abort(decodeError(news));
    },
  });
  channel.closed.addEventListener('abort', () => {
    died.abort(channel.closed.reason);
  });
  return { channel, died: died.signal };
}

/** Starts a keeper; it does nothing until it is called, and ends when this process does. */
export function startKeeper(directory: string): OwnedKeeper {
  const program = join(projectRoot, 'dist/vm/machine/keeper.js');
  if (!existsSync(program)) {
    throw new FastioError('TOOL_MISSING', `there is no ${program}`, 'Run `npm run build`.');
  }
  const log = join(directory, 'keeper.log');
  const logFile = openSync(log, 'a');
  const child = spawn(process.execPath, [program], {
    detached: true,
    // A directory of its own would keep whatever file system it is on busy.
    cwd: '/',
    stdio: ['ignore', 'ignore', logFile, 'pipe'],
  });
  closeSync(logFile);
  child.unref();
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => {
      resolve();
    });
    child.once('error', () => {
      resolve();
    });
  });
  const stream = child.stdio[3];
  if (!(stream instanceof Socket)) throw new Error('descriptor 3 of the keeper was asked to be a pipe');
  const { channel, died } = openLink(stream, () => keeperGone(log));
  return {
    channel,
    died,
    pid: child.pid ?? 0,
    async end() {
      channel.close();
      child.ref();
      const late = new FastioError(
        'TIMEOUT',
        `the guest's keeper ${child.pid ?? 0} does not end`,
        `Read ${log}.`,
      );
      await orAbort(exited, deadline(cleanUpMs, late)).finally(() => {
        child.unref();
      });
    },
  };
}

/** @throws FastioError GUEST_NOT_RUNNING when nobody answers there. */
export async function connectKeeper(
  directory: string,
  name: string,
  signal: AbortSignal,
): Promise<KeeperLink> {
  const stream = connect(join(directory, socketName));
  const connected = new Promise<void>((resolve, reject) => {
    stream.once('connect', resolve);
    stream.once('error', reject);
  });
  try {
    await orAbort(connected, signal);
  } catch (error) {
    stream.destroy();
    if (['ENOENT', 'ECONNREFUSED', 'ENOTDIR'].includes(errnoOf(error) ?? '')) throw notRunning(name);
    throw error;
  }
  return openLink(stream, () => notRunning(name));
}

export function notRunning(name: string): FastioError {
  return new FastioError(
    'GUEST_NOT_RUNNING',
    `no guest named ${name} is running`,
    `Start it with \`fastio up --name ${name}\`, or look at \`fastio status\`.`,
  );
}

function keeperGone(log: string): FastioError {
  let words: readonly string[] = [];
  try {
    words = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-20);
  } catch {
    // It left in good order, and took its directory along.
  }
  return new FastioError(
    'QEMU_GONE',
    'the guest’s keeper is gone, and the guest with it',
    'Start the guest again.',
    {
      detail: words,
    },
  );
}
