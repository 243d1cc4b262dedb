import type { Duplex } from 'node:stream';

/** One client at a time writes to the transfer disk. */
export interface TransferLock {
  /** Resolves when it is the client's turn. */
  lock(client: Duplex): Promise<void>;
  /** Ends the client's turn; so does its disappearing. */
  unlock(client: Duplex): void;
}

export function createTransferLock(): TransferLock {
  const queue: { readonly client: Duplex; readonly start: () => void }[] = [];

  function unlock(client: Duplex): void {
    const held = queue.findIndex((each) => each.client === client);
    if (held < 0) return;
    queue.splice(held, 1);
    // Only whoever holds the lock makes room by leaving.
    if (held === 0) queue[0]?.start();
  }

  return {
    unlock,
    lock: (client) =>
      new Promise((resolve) => {
        queue.push({ client, start: resolve });
        client.once('close', () => {
          while (queue.some((each) => each.client === client)) unlock(client);
        });
        if (queue.length === 1) resolve();
      }),
  };
}
