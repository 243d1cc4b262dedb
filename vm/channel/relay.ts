import type { Duplex } from 'node:stream';
import { FastioError } from '../errors.js';
import { orAbort } from '../wait.js';
import { discard } from './commands.js';
import {
  createFrameParser,
  encodeFrame,
  encodeSignal,
  frameType,
  jsonPayloadMax,
  type Frame,
} from './frame.js';

export interface RelayOptions {
  /** The agent's stream ended or carries nonsense; nothing more will come from it. */
  readonly onBroken: (error: Error) => void;
  /** Any bytes from the agent: it lives. */
  readonly onSign: () => void;
}

/** Shares one agent among any number of clients, each with ids of its own. */
export interface Relay {
  /** Serves a client until its stream closes; then its commands are killed. Calls go to `onCall`. */
  attach(client: Duplex, onCall: (frame: Frame) => void): void;
  /** Asks the agent something on the keeper's own behalf and returns the answer. */
  request(encode: (id: number) => Buffer, signal: AbortSignal): Promise<Frame>;
  /** Whether commands are under way. */
  busy(): boolean;
}

/** Frames a client may send on to the agent. */
const relayed: readonly number[] = [
  frameType.exec,
  frameType.stdin,
  frameType.stdinEof,
  frameType.credit,
  frameType.signal,
  frameType.ping,
];
const lastFrames: readonly number[] = [frameType.exit, frameType.pong, frameType.done];

interface Route {
  /** Undefined once the client has gone. */
  client: Duplex | undefined;
  readonly clientId: number;
  /** The client's own table, client id to agent id. */
  readonly ids: Map<number, number>;
  readonly answer?: (frame: Frame) => void;
}

export function createRelay(agent: Duplex, { onBroken, onSign }: RelayOptions): Relay {
  const routes = new Map<number, Route>();
  let lastId = 0;

  function newId(): number {
    do lastId = (lastId % 0xffff_ffff) + 1;
    while (routes.has(lastId));
    return lastId;
  }

  function fromAgent(frame: Frame): void {
    if (frame.type === frameType.refused) {
      throw new FastioError(
        'QEMU_GONE',
        `the guest's agent refused a frame: ${frame.payload.toString()}`,
        'Start the guest again.',
      );
    }
    const route = routes.get(frame.id);
    if (route === undefined) return;
    if (lastFrames.includes(frame.type)) {
      routes.delete(frame.id);
      route.ids.delete(route.clientId);
    }
    if (route.answer !== undefined) route.answer(frame);
    else if (route.client === undefined) discard(agent, frame);
    else route.client.write(encodeFrame(frame.type, route.clientId, frame.payload));
  }

  const parseAgent = createFrameParser(fromAgent);
  agent.on('data', (chunk: Buffer) => {
    onSign();
    guarded(() => {
      parseAgent(chunk);
    }, onBroken);
  });
  agent.on('close', () => {
    onBroken(new FastioError('QEMU_GONE', 'QEMU closed the channel to the guest', 'Start the guest again.'));
  });
  agent.resume();

  return {
    busy: () => routes.size > 0,
    async request(encode, signal) {
      const id = newId();
      const answer = new Promise<Frame>((resolve) => {
        routes.set(id, { client: undefined, clientId: 0, ids: new Map(), answer: resolve });
      });
      agent.write(encode(id));
      return await orAbort(answer, signal);
    },
    attach(client, onCall) {
      const ids = new Map<number, number>();
      const fromClient = (frame: Frame): void => {
        if (frame.type === frameType.call) {
          onCall(frame);
          return;
        }
        if (!relayed.includes(frame.type)) throw new Error(`a client sent a frame of type ${frame.type}`);
        if (frame.type === frameType.exec || frame.type === frameType.ping) {
          const id = newId();
          ids.set(frame.id, id);
          routes.set(id, { client, clientId: frame.id, ids });
        }
        const id = ids.get(frame.id);
        // What a client sends after its command has ended has nowhere to go.
        if (id !== undefined) agent.write(encodeFrame(frame.type, id, frame.payload));
      };
      const parse = createFrameParser(fromClient, jsonPayloadMax);
      client.on('data', (chunk: Buffer) => {
        guarded(
          () => {
            parse(chunk);
          },
          () => client.destroy(),
        );
      });
      client.on('error', () => client.destroy());
      client.on('close', () => {
        for (const id of ids.values()) {
          const route = routes.get(id);
          if (route !== undefined) route.client = undefined;
          agent.write(encodeSignal(id, 9));
        }
      });
    },
  };
}

function guarded(work: () => void, onError: (error: Error) => void): void {
  try {
    work();
  } catch (error) {
    onError(error as Error);
  }
}
