import type { Duplex } from 'node:stream';
import { FastioError } from '../errors.js';
import { orAbort, deadline } from '../wait.js';

/** QEMU's control connection. */
export interface Qmp {
  /**
   * Runs a command and returns its result.
   * @throws FastioError QEMU_START with QEMU's own words when it refuses; the signal's reason when that aborts.
   */
  execute(command: string, args: Record<string, unknown>, signal: AbortSignal): Promise<unknown>;
  /** A command of the human monitor, for what QMP does not offer. */
  human(command: string, signal: AbortSignal): Promise<string>;
}

/** How long QEMU may take for any one command, in milliseconds: its main loop answers even when the guest hangs. */
const answerMs = 30_000;

interface QmpMessage {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

/** Opens QMP on a fresh connection and leaves its negotiation mode. */
export async function openQmp(stream: Duplex, signal: AbortSignal): Promise<Qmp> {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let lastId = 0;
  let partial = '';
  let greet = (): void => undefined;
  const greeted = new Promise<void>((resolve) => (greet = resolve));

  stream.on('data', (chunk: Buffer) => {
    const lines = (partial + chunk.toString()).split('\n');
    partial = lines.pop() ?? '';
    for (const line of lines) {
      if (line.trim() !== '') take(JSON.parse(line) as QmpMessage);
    }
  });
  stream.on('close', () => {
    for (const { reject } of waiting.values()) reject(gone());
    waiting.clear();
  });

  function take(message: QmpMessage): void {
    if (message.QMP !== undefined) greet();
    if (message.id === undefined) return;
    const waiter = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error === undefined) waiter?.resolve(message.return);
    else waiter?.reject(refused(message.error.desc));
  }

  const execute: Qmp['execute'] = async (command, args, callerSignal) => {
    if (stream.destroyed) throw gone();
    const id = (lastId += 1);
    const answer = new Promise<unknown>((resolve, reject) => waiting.set(id, { resolve, reject }));
    stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    const late = new FastioError(
      'QEMU_GONE',
      `QEMU did not answer ${command} within ${answerMs / 1_000} s`,
      'Look at what else this machine is doing, then start the guest again.',
    );
    return await orAbort(answer, AbortSignal.any([callerSignal, deadline(answerMs, late)]));
  };

  await orAbort(greeted, signal);
  await execute('qmp_capabilities', {}, signal);
  return {
    execute,
    human: async (command, callerSignal) =>
      (await execute('human-monitor-command', { 'command-line': command }, callerSignal)) as string,
  };
}

function gone(): FastioError {
  return new FastioError('QEMU_GONE', 'QEMU closed its control connection', 'Start the guest again.');
}

function refused(description: string): FastioError {
  return new FastioError(
    'QEMU_START',
    `QEMU refused: ${description}`,
    'Read qemu.log in the guest’s directory.',
  );
}
