import { once } from 'node:events';
import { connect } from 'node:net';

export type Reply = string | number | null | RedisError | readonly Reply[];

/** An error that the server answered with. */
export interface RedisError {
  readonly error: string;
}

/** A client that checks nothing and hides nothing: what was answered, in order. */
export interface Client {
  /** Sends a command and waits for its reply. */
  readonly ask: (...words: readonly (string | number)[]) => Promise<Reply>;
  /** Sends bytes as they are. */
  readonly send: (text: string) => void;
  /** The next reply that was not taken yet. Rejects when the connection ends instead. */
  readonly reply: () => Promise<Reply>;
  /** Stops, and goes on, reading from the socket. */
  readonly pause: () => void;
  readonly resume: () => void;
  /** Resolves when the server has closed. */
  readonly ended: Promise<void>;
  /** Resets the connection. */
  readonly reset: () => void;
  readonly close: () => void;
}

/** A command as the protocol writes it. */
export function command(...words: readonly (string | number)[]): string {
  const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
  return `*${words.length}\r\n${parts.join('')}`;
}

export async function openClient(port: number, host = '127.0.0.1'): Promise<Client> {
  const socket = connect({ port, host, noDelay: true });
  await once(socket, 'connect');
  let bytes = Buffer.alloc(0);
  let over = false;
  const chunks: Buffer[] = [];
  let wake: () => void = () => undefined;
  socket.on('data', (chunk) => {
    chunks.push(chunk);
    wake();
  });
  const ended = new Promise<void>((resolve) => {
    socket.on('close', () => {
      over = true;
      wake();
      resolve();
    });
  });
  // How it ended shows in the replies that are missing.
  socket.on('error', () => undefined);

  const more = async (): Promise<void> => {
    while (chunks.length === 0) {
      if (over) throw new Error('the server closed the connection');
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    bytes = Buffer.concat([bytes, ...chunks.splice(0)]);
  };
  const takeLine = async (): Promise<string> => {
    for (;;) {
      const end = bytes.indexOf('\r\n');
      if (end >= 0) {
        const line = bytes.subarray(0, end).toString();
        bytes = bytes.subarray(end + 2);
        return line;
      }
      await more();
    }
  };
  const takeBulk = async (length: number): Promise<string | null> => {
    if (length < 0) return null;
    while (bytes.length < length + 2) await more();
    const text = bytes.subarray(0, length).toString();
    bytes = bytes.subarray(length + 2);
    return text;
  };
  const reply = async (): Promise<Reply> => {
    const line = await takeLine();
    const rest = line.slice(1);
    switch (line.slice(0, 1)) {
      case '+':
        return rest;
      case '-':
        return { error: rest };
      case ':':
        return Number(rest);
      case '$':
        return await takeBulk(Number(rest));
      case '*': {
        const items: Reply[] = [];
        for (let index = 0; index < Number(rest); index += 1) items.push(await reply());
        return items;
      }
      default:
        throw new Error(`found ${JSON.stringify(line)}, expected a reply`);
    }
  };
  const send = (text: string): void => {
    socket.write(text);
  };
  return {
    ask: async (...words) => {
      send(command(...words));
      return await reply();
    },
    send,
    reply,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    ended,
    reset: () => socket.resetAndDestroy(),
    close: () => socket.destroy(),
  };
}
