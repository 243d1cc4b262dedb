import { setMaxListeners } from 'node:events';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { FastioError } from '../errors.js';
import { orAbort } from '../wait.js';
import {
  createFrameParser,
  encodeCredit,
  encodeExec,
  encodeFrame,
  encodeJson,
  encodeSignal,
  exitKind,
  framePayloadMax,
  frameType,
  jsonPayloadMax,
  stdinCreditBytes,
  streamNumber,
  type Frame,
} from './frame.js';

/** Output that may be under way for one stream of one command, in bytes. */
const outputCreditBytes = 1024 * 1024;
/** Bytes per STDIN frame: large enough to be fast, small enough that commands take turns. */
const stdinChunkBytes = 32_768;

export interface CommandStreams {
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: AsyncIterable<Uint8Array>;
  /** A returned promise holds the command's output back until it settles; a rejection kills the command. */
  readonly onStdout: (chunk: Buffer) => Promise<void> | undefined;
  readonly onStderr: (chunk: Buffer) => Promise<void> | undefined;
  readonly signal: AbortSignal;
}

export type CommandEnd =
  | { readonly kind: 'status'; readonly status: number }
  | { readonly kind: 'signalled'; readonly signal: number }
  | { readonly kind: 'notRun'; readonly errno: number; readonly text: string };

/** Commands and calls over one stream to the keeper (or, for tests, straight to an agent). */
export interface CommandChannel {
  /** Runs a command to its end. When the signal aborts the command's process group is killed. */
  run(streams: CommandStreams): Promise<CommandEnd>;
  /** Asks the keeper; rejects with the error it answers. */
  call(name: string, args: unknown, signal: AbortSignal): Promise<unknown>;
  /** Aborts when the stream has ended: nothing will be answered any more. */
  readonly closed: AbortSignal;
  close(): void;
}

export interface ChannelOptions {
  /** Something the keeper says without having been asked. */
  readonly onNews?: (news: unknown) => void;
  /** Why a call was refused, as the keeper put it. */
  readonly decodeError?: (error: unknown) => Error;
  /** The reason `closed` aborts with. */
  readonly closedReason: () => Error;
}

interface Running {
  readonly onFrame: (frame: Frame) => void;
  readonly onClosed: (reason: Error) => void;
}

export function openChannel(stream: Duplex, options: ChannelOptions): CommandChannel {
  const running = new Map<number, Running>();
  const closed = new AbortController();
  let lastId = 0;

  /** An idle channel does not keep its process alive; a running command does. */
  const keepAlive = (): void => {
    if (!(stream instanceof Socket)) return;
    if (running.size > 0) stream.ref();
    else stream.unref();
  };
  const end = (reason: Error): void => {
    if (closed.signal.aborted) return;
    closed.abort(reason);
    stream.destroy();
    for (const { onClosed } of [...running.values()]) onClosed(reason);
    running.clear();
  };
  const parse = createFrameParser((frame) => {
    if (frame.type === frameType.news) options.onNews?.(JSON.parse(frame.payload.toString()));
    else if (frame.type === frameType.refused) {
      throw new FastioError(
        'QEMU_GONE',
        `the agent refused a frame: ${frame.payload.toString()}`,
        'Report this.',
      );
    } else if (running.has(frame.id)) running.get(frame.id)?.onFrame(frame);
    else discard(stream, frame);
  }, jsonPayloadMax);
  stream.on('data', (chunk: Buffer) => {
    try {
      parse(chunk);
    } catch (error) {
      end(error as Error);
    }
  });
  // A handshake leaves the stream paused, and then a listener alone does not start it.
  stream.resume();
  keepAlive();
  stream.on('error', () => {
    end(options.closedReason());
  });
  stream.on('close', () => {
    end(options.closedReason());
  });

  /** Registers an id and gives its handler a way to settle. */
  function converse<T>(
    start: (id: number, settle: (outcome: T | Error) => void) => (frame: Frame) => void,
  ): Promise<T> {
    closed.signal.throwIfAborted();
    do lastId = (lastId % 0xffff_ffff) + 1;
    while (running.has(lastId));
    const id = lastId;
    return new Promise<T>((resolve, reject) => {
      const settle = (outcome: T | Error): void => {
        running.delete(id);
        keepAlive();
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      };
      running.set(id, { onFrame: start(id, settle), onClosed: settle });
      keepAlive();
    });
  }

  return {
    closed: closed.signal,
    close: () => {
      end(options.closedReason());
    },
    call(name, args, signal) {
      const answer = converse<unknown>((id, settle) => {
        stream.write(encodeJson(frameType.call, id, { name, args }));
        return ({ payload }) => {
          const reply = JSON.parse(payload.toString()) as { value?: unknown; error?: unknown };
          if (reply.error === undefined) settle(reply.value);
          else settle(options.decodeError?.(reply.error) ?? new Error(JSON.stringify(reply.error)));
        };
      });
      return orAbort(answer, signal);
    },
    async run(streams) {
      streams.signal.throwIfAborted();
      // A caller may run hundreds of commands under one signal.
      setMaxListeners(0, streams.signal);
      return converse<CommandEnd>((id, settle) => startCommand(stream, id, streams, settle));
    },
  };
}

/** Output of a command nobody waits for any more is still paid for, so that the command can end. */
export function discard(stream: Duplex, { type, id, payload }: Frame): void {
  if (type === frameType.stdout) stream.write(encodeCredit(id, streamNumber.stdout, payload.length));
  if (type === frameType.stderr) stream.write(encodeCredit(id, streamNumber.stderr, payload.length));
}

function startCommand(
  stream: Duplex,
  id: number,
  streams: CommandStreams,
  settle: (outcome: CommandEnd | Error) => void,
): (frame: Frame) => void {
  let failure: Error | undefined;
  const fail = (error: unknown): void => {
    if (failure !== undefined) return;
    failure = error instanceof Error ? error : new Error(String(error));
    stream.write(encodeSignal(id, 9));
  };
  const onAbort = (): void => {
    fail(streams.signal.reason);
    if (failure !== undefined) finish(failure);
  };
  const stdin = createStdin(stream, id, fail);
  let ended = false;
  const finish = (outcome: CommandEnd | Error): void => {
    if (ended) return;
    ended = true;
    stdin.stop();
    streams.signal.removeEventListener('abort', onAbort);
    settle(outcome);
  };
  stream.write(
    encodeExec(id, {
      argv: streams.argv,
      env: streams.env ?? {},
      cwd: streams.cwd ?? '',
      hasStdin: streams.stdin !== undefined,
      creditBytes: outputCreditBytes,
    }),
  );
  streams.signal.addEventListener('abort', onAbort, { once: true });
  if (streams.stdin !== undefined) void stdin.pump(streams.stdin);

  // Each stream's chunks are taken one after the other; EXIT waits for the last.
  const busy: Record<number, Promise<void> | undefined> = {};
  const take = (number: number, sink: CommandStreams['onStdout'], chunk: Buffer): void => {
    const grant = (): void => void stream.write(encodeCredit(id, number, chunk.length));
    const hand = (): Promise<void> | undefined => (failure === undefined ? sink(chunk) : undefined);
    const before = busy[number];
    const taken = before === undefined ? hand() : before.then(hand);
    if (taken === undefined) {
      grant();
      return;
    }
    const done = taken.then(grant, fail).then(() => {
      if (busy[number] === done) busy[number] = undefined;
    });
    busy[number] = done;
  };
  return ({ type, payload }) => {
    if (type === frameType.stdout) take(streamNumber.stdout, streams.onStdout, payload);
    else if (type === frameType.stderr) take(streamNumber.stderr, streams.onStderr, payload);
    else if (type === frameType.credit) stdin.grant(payload.readUInt32LE(1));
    else if (type === frameType.exit) {
      const how = decodeExit(payload);
      void Promise.all([busy[streamNumber.stdout], busy[streamNumber.stderr]]).then(() => {
        finish(failure ?? how);
      });
    }
  };
}

function decodeExit(payload: Buffer): CommandEnd {
  const value = payload.readUInt32LE(4);
  switch (payload.readUInt32LE(0)) {
    case exitKind.status:
      return { kind: 'status', status: value };
    case exitKind.signalled:
      return { kind: 'signalled', signal: value };
    default:
      return { kind: 'notRun', errno: value, text: payload.subarray(8).toString() };
  }
}

/** Sends a command's input within the credit the agent gives. */
function createStdin(stream: Duplex, id: number, fail: (error: unknown) => void) {
  let credit = stdinCreditBytes;
  let stopped = false;
  let wake: (() => void) | undefined;
  const wakeUp = (): void => {
    wake?.();
    wake = undefined;
  };

  async function send(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && !stopped;) {
      if (credit === 0) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      const size = Math.min(bytes.length - at, credit, stdinChunkBytes, framePayloadMax);
      credit -= size;
      stream.write(encodeFrame(frameType.stdin, id, bytes.subarray(at, at + size)));
      at += size;
    }
  }

  return {
    grant(bytes: number): void {
      credit += bytes;
      wakeUp();
    },
    stop(): void {
      stopped = true;
      wakeUp();
    },
    async pump(source: AsyncIterable<Uint8Array>): Promise<void> {
      try {
        for await (const bytes of source) {
          await send(bytes);
          if (stopped) return;
        }
        if (!stopped) stream.write(encodeFrame(frameType.stdinEof, id));
      } catch (error) {
        fail(error);
      }
    },
  };
}
