import { expect, it, jest } from '@jest/globals';
import { command, type Client } from '../test/redis/client.js';
import { cases, eventually, modes, start, stop } from '../test/redis/sanitized.js';

jest.setTimeout(600_000);

/** Bytes of a value: more than sockets and send buffers hold of 32 of them. */
const large = 1_000_000;

/** Increments a counter of its own, several at a time: a reply that is lost, doubled or out of order shows. */
async function count(client: Client, key: string, over: () => boolean): Promise<number> {
  const atOnce = 5;
  let done = 0;
  while (!over()) {
    for (let index = 0; index < atOnce; index += 1) client.send(command('INCR', key));
    for (let index = 0; index < atOnce; index += 1) {
      done += 1;
      expect(await client.reply()).toBe(done);
    }
  }
  return done;
}

it.each(cases)(
  '$server with $mode loses its rings while it serves, and neither a reply nor a connection',
  async ({ server, mode }) => {
    await using running = await start({ server, module: modes[mode], vanishing: true });
    const [control, slow, blocked, subscribed] = await Promise.all([
      running.client(),
      running.client(),
      running.client(),
      running.client(),
    ]);
    const clients = await Promise.all(Array.from({ length: 20 }, () => running.client()));
    const value = 'v'.repeat(large);
    expect(await control.ask('SET', 'large', value)).toBe('OK');
    expect(await subscribed.ask('SUBSCRIBE', 'news')).toEqual(['subscribe', 'news', 1]);
    blocked.send(command('BLPOP', 'list', 0));
    slow.pause();
    for (let index = 0; index < 32; index += 1) slow.send(command('GET', 'large'));
    let over = false;
    let counted = 0;
    const counting = clients.map((client, number) =>
      count(client, `counter:${number}`, () => {
        counted += 1;
        return over;
      }),
    );
    await eventually(() => Promise.resolve(counted > 500));

    running.kill('SIGWINCH');

    await eventually(async () => (await running.info('fastio'))['fastio_mode'] === 'abandoned');
    const before = counted;
    await eventually(() => Promise.resolve(counted > before + 500));
    over = true;
    const counts = await Promise.all(counting);
    expect(await control.ask('MGET', ...clients.map((_, number) => `counter:${number}`))).toEqual(
      counts.map(String),
    );
    expect(await control.ask('RPUSH', 'list', 'item')).toBe(1);
    expect(await blocked.reply()).toEqual(['list', 'item']);
    expect(await control.ask('PUBLISH', 'news', 'text')).toBe(1);
    expect(await subscribed.reply()).toEqual(['message', 'news', 'text']);
    slow.resume();
    for (let index = 0; index < 32; index += 1) expect((await slow.reply()) === value).toBe(true);
    expect(await slow.ask('PING')).toBe('PONG');
    expect(running.log().match(/FastIO: lost/g)).toHaveLength(1);
    expect(running.log()).toMatch(
      /FastIO: lost its workers \(E[A-Z]+\); \d+ connections go on with plain sockets/,
    );
    await stop(running);
  },
);
