import { PassThrough } from 'node:stream';
import { expect, it } from '@jest/globals';
import { createTransferLock } from './transfer-lock.js';

it('lets one client in at a time, in the order they came', async () => {
  const lock = createTransferLock();
  const [a, b] = [new PassThrough(), new PassThrough()];
  const order: string[] = [];

  await lock.lock(a);
  const second = lock.lock(b).then(() => order.push('b'));
  order.push('a done');
  lock.unlock(a);
  await second;

  expect(order).toEqual(['a done', 'b']);
});

it('passes the turn on when its holder vanishes, and forgets one that vanished while waiting', async () => {
  const lock = createTransferLock();
  const [holder, gone, next] = [new PassThrough(), new PassThrough(), new PassThrough()];
  await lock.lock(holder);
  void lock.lock(gone);
  const third = lock.lock(next);

  gone.destroy();
  holder.destroy();

  await expect(third).resolves.toBeUndefined();
});

it('ignores an unlock by someone who holds nothing', async () => {
  const lock = createTransferLock();
  const [holder, other] = [new PassThrough(), new PassThrough()];
  await lock.lock(holder);
  let entered = false;
  const waiting = lock.lock(other).then(() => (entered = true));

  lock.unlock(new PassThrough());
  const early = entered;
  lock.unlock(holder);
  await waiting;

  expect(early).toBe(false);
});
