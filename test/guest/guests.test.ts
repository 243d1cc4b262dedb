import { existsSync, readFileSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { bootQemu, connectVm, listVms, stopVm } from '../../vm/machine/qemu-vm.js';
import type { Progress } from '../../vm/progress.js';
import type { Vm } from '../../vm/vm.js';
import { defaultSpec, noSignal, report } from './guest.js';

describe('a guest', () => {
  const boot = (name: string, more: Partial<typeof defaultSpec> = {}, events?: Progress[]): Promise<Vm> =>
    bootQemu(
      { ...defaultSpec, memoryMiB: 512, ...more },
      {
        ...{ name, accel: 'auto', requireAccel: false, signal: noSignal },
        report: events === undefined ? report : (event) => void events.push(event),
      },
    );

  it('has the host’s time and entropy of its own, although it was resumed', async () => {
    await using other = await boot('twin-a');
    await using twin = await boot('twin-b');

    const dates = await Promise.all([other, twin].map((each) => each.exec(['date', '+%s'])));
    const random = await Promise.all(
      [other, twin].map((each) => each.exec(['sh', '-c', 'head -c 32 /dev/urandom | od -An -tx1'])),
    );

    expect(other.info.startedFrom).toBe('template');
    for (const { stdout } of dates) expect(Math.abs(Number(stdout) - Date.now() / 1_000)).toBeLessThan(30);
    expect(random[0]?.stdout).not.toBe(random[1]?.stdout);
  });

  it('shares neither files nor processes with another that runs beside it', async () => {
    const [one, two] = await Promise.all([boot('beside-1'), boot('beside-2')]);

    await one.exec(['sh', '-c', 'echo mine >/root/note']);
    const seen = await two.exec(['cat', '/root/note']);
    const listed = (await listVms()).map(({ name }) => name);
    await Promise.all([one, two].map((each) => each[Symbol.asyncDispose]()));

    expect(seen.status).toBe(1);
    expect(listed).toEqual(expect.arrayContaining(['beside-1', 'beside-2']));
  });

  it('cannot have the name of one that runs', async () => {
    await using guest = await boot('taken');

    await expect(boot(guest.name)).rejects.toMatchObject({ code: 'GUEST_EXISTS' });
  });

  it('leads a port of the loopback interface to one of its own, and names one that is taken', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const taken = (server.address() as AddressInfo).port;

    await using guest = await boot('ports', { forwards: [{ hostPort: 0, guestPort: 9 }] });
    const blocked = boot('blocked', { forwards: [{ hostPort: taken, guestPort: 9 }] });

    await expect(blocked).rejects.toMatchObject({
      code: 'PORT_TAKEN',
      message: expect.stringContaining(`${taken}`),
    });
    server.close();
    const listener = guest.exec(['perl', '-MIO::Socket::INET', '-e', listenScript]);
    const said = await readFrom(guest.info.forwards[0]?.hostPort ?? 0);
    await listener;
    expect(said).toBe('hello from the guest');
  });

  it('that is stopped by name is gone, with its directory and its QEMU', async () => {
    const guest = await boot('stopped');
    const { qemuPid, directory } = guest.info;

    await stopVm('stopped', { signal: noSignal });

    expect(existsSync(directory)).toBe(false);
    expect(existsSync(`/proc/${qemuPid}`)).toBe(false);
    expect(guest.died.aborted).toBe(true);
    await expect(connectVm('stopped')).rejects.toMatchObject({ code: 'GUEST_NOT_RUNNING' });
    await expect(stopVm('stopped', { signal: noSignal })).rejects.toMatchObject({
      code: 'GUEST_NOT_RUNNING',
    });
  });

  it('gets a new template when its own is broken, and says so', async () => {
    const spec = { kernelArgs: ['fastio.test=broken-template'] };
    const first = await boot('first', spec);
    const state = join(templateOf(first), 'state');
    await first[Symbol.asyncDispose]();
    await writeFile(state, Buffer.alloc(statSync(state).size, 'not a snapshot'));
    const events: Progress[] = [];

    await using guest = await boot('second', spec, events);

    expect((await guest.exec(['true'])).status).toBe(0);
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'warning', message: expect.stringContaining('template is made anew') }),
    );
  });
});

/** The directory of the template a guest resumed from. */
function templateOf({ info }: Vm): string {
  const memory = /mem-path=([^,\0]*)/.exec(readFileSync(`/proc/${info.qemuPid}/cmdline`, 'latin1'))?.[1];
  if (memory === undefined) throw new Error('the guest has no memory file');
  return dirname(memory);
}

const listenScript = `my $server = IO::Socket::INET->new(LocalPort => 9, Listen => 1, ReuseAddr => 1) or die $!;
my $client = $server->accept; print $client "hello from the guest";`;

/** Reads what a listener says; QEMU accepts before the guest listens, so an empty answer is no answer. */
async function readFrom(port: number): Promise<string> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const said = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect(port, '127.0.0.1');
      socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
      socket.on('error', () => undefined);
      socket.on('close', () => {
        resolve(text);
      });
    });
    if (said !== '') return said;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error('nothing was heard from the guest');
}
