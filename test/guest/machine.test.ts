import { readFile, writeFile } from 'node:fs/promises';
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { bootQemu, connectVm, listVms, stopVm } from '../../vm/machine/qemu-vm.js';
import { cacheDir } from '../../vm/paths.js';
import type { Progress } from '../../vm/progress.js';
import type { Vm } from '../../vm/vm.js';
import { defaultSpec, expectQuietKernel, hostTemp, noSignal, report, sharedVm } from './guest.js';

let vm: Vm;
let mark = 0;

beforeAll(async () => {
  vm = await sharedVm();
  mark = (await vm.kernelTrouble()).mark;
});

afterAll(async () => {
  await expectQuietKernel(vm, mark);
});

describe('commands', () => {
  it('run in an arm64 kernel of the series asked for, and report streams and status', async () => {
    const uname = await vm.exec(['uname', '-srm']);
    const failing = await vm.exec(['sh', '-c', 'echo out; echo err >&2; exit 3']);

    expect(uname.stdout).toMatch(/^Linux 6\.12\.\S+ aarch64\n$/);
    expect(uname.stdout).toContain(vm.info.kernelRelease);
    expect(failing).toEqual({ status: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('that are killed, missing or not executable end as a shell would report it', async () => {
    const killed = await vm.exec(['sh', '-c', 'kill -KILL $$']);
    const missing = await vm.exec(['no-such-program']);
    const forbidden = await vm.exec(['/etc/passwd']);

    expect(killed.status).toBe(137);
    expect(missing).toMatchObject({ status: 127, stderr: 'no-such-program: No such file or directory\n' });
    expect(forbidden.status).toBe(126);
  });

  it('get input as it comes, and give output before they end', async () => {
    const seen: string[] = [];
    let answer = (): void => undefined;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    async function* conversation(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('ping\n');
      // The second line is sent only once the first has come back.
      await answered;
      yield Buffer.from('bye\n');
    }

    const { status } = await vm.exec(['cat'], {
      stdin: conversation(),
      onStdout: (chunk) => {
        seen.push(Buffer.from(chunk).toString());
        answer();
      },
    });

    expect(status).toBe(0);
    expect(seen.join('')).toBe('ping\nbye\n');
    expect(seen.length).toBeGreaterThan(1);
  });

  it('get an environment and a directory', async () => {
    const { stdout } = await vm.exec(['sh', '-c', 'echo $PWD $X'], { cwd: '/usr/lib', env: { X: 'y' } });

    expect(stdout).toBe('/usr/lib y\n');
  });

  it('carry megabytes in and out unharmed', async () => {
    const input = randomBytes(3_000_000);

    const { stdout } = await vm.exec(['sha256sum'], { stdin: input });
    const chunks: Uint8Array[] = [];
    await vm.exec(['cat'], { stdin: input, onStdout: (chunk) => void chunks.push(chunk) });

    expect(Buffer.concat(chunks).equals(input)).toBe(true);
    expect(stdout).toMatch(/^[0-9a-f]{64}/);
  });

  it('run a thousand times, ten at once, each with its own answer', async () => {
    const before = await vm.exec(['sh', '-c', 'ls /proc/1/fd | wc -l']);

    for (let round = 0; round < 100; round++) {
      const results = await Promise.all(
        Array.from({ length: 10 }, (_, i) => vm.exec(['/bin/echo', `${round}.${i}`])),
      );
      expect(results.map(({ stdout }) => stdout)).toEqual(
        Array.from({ length: 10 }, (_, i) => `${round}.${i}\n`),
      );
    }

    const after = await vm.exec(['sh', '-c', 'ls /proc/1/fd | wc -l; ps -eo stat= | grep -c ^Z']);
    expect(after.stdout).toBe(`${before.stdout.trim()}\n0\n`);
  });

  it('are killed, children and all, when their time is over or their caller gives up', async () => {
    const late = vm.exec(['sh', '-c', 'sleep 7777.1 & wait'], { timeoutMs: 50 });
    await expect(late).rejects.toMatchObject({ code: 'TIMEOUT' });
    const stop = new AbortController();
    const given = vm.exec(['sh', '-c', 'echo go; sleep 7777.2 & wait'], {
      signal: stop.signal,
      onStdout: () => {
        stop.abort(new Error('enough'));
      },
    });
    await expect(given).rejects.toThrow('enough');

    const { stdout } = await vm.exec(['sh', '-c', 'sleep 0.5; pgrep -fc "sleep 7777[.]" || true']);
    expect(stdout).toBe('0\n');
  });

  it('that flood their output leave room for others', async () => {
    const stop = new AbortController();
    let bytes = 0;
    const flood = vm.exec(['yes'], {
      signal: stop.signal,
      onStdout: (chunk) => {
        bytes += chunk.length;
      },
    });
    const flooded = expect(flood).rejects.toThrow('enough');

    const { stdout } = await vm.exec(['echo', 'quick']);
    stop.abort(new Error('enough'));
    await flooded;

    expect(stdout).toBe('quick\n');
    expect(bytes).toBeGreaterThan(0);
  });

  it('of two clients are kept apart, and those of one that leaves are killed', async () => {
    const other = await connectVm(vm.name);
    const running = other.exec(['sh', '-c', 'echo up; sleep 8888.1 & wait'], {
      onStdout: () => void other[Symbol.asyncDispose](),
    });
    await expect(running).rejects.toMatchObject({ code: 'GUEST_NOT_RUNNING' });

    const { stdout } = await vm.exec(['sh', '-c', 'sleep 0.5; pgrep -fc "sleep 8888[.]" || true']);

    expect(stdout).toBe('0\n');
  });
});

describe('files', () => {
  it('go to the guest and come back with their modes, links and contents', async () => {
    const source = hostTemp();
    mkdirSync(join(source, 'deep/er'), { recursive: true });
    const bytes = randomBytes(1_234_567);
    await writeFile(join(source, 'deep/er/data'), bytes);
    await writeFile(join(source, 'run me'), '#!/bin/sh\necho ran\n', { mode: 0o751 });
    symlinkSync('run me', join(source, 'link'));
    await writeFile(join(source, 'empty'), '');
    const back = hostTemp();

    await vm.push(source, '/root/pushed');
    const ran = await vm.exec(['/root/pushed/link']);
    await vm.pull('/root/pushed', back);

    expect(ran.stdout).toBe('ran\n');
    expect((await readFile(join(back, 'deep/er/data'))).equals(bytes)).toBe(true);
    expect(statSync(join(back, 'run me')).mode & 0o777).toBe(0o751);
    expect(statSync(join(back, 'empty')).size).toBe(0);
  });

  it('replace the one that was there, whole, and never show what an earlier push carried', async () => {
    const directory = hostTemp();
    const large = join(directory, 'large');
    const small = join(directory, 'small');
    await writeFile(large, randomBytes(500_000), { mode: 0o600 });
    await writeFile(small, 'short\n', { mode: 0o640 });

    await vm.push(large, '/root/made/for/it/file');
    await vm.push(small, '/root/made/for/it/file');
    const seen = await vm.exec(['sh', '-c', 'cat /root/made/for/it/file; stat -c %a /root/made/for/it/file']);
    await vm.push(join(directory), '/root/several');
    const listed = await vm.exec(['ls', '/root/several']);

    expect(seen.stdout).toBe('short\n640\n');
    expect(listed.stdout).toBe('large\nsmall\n');
  });

  it('can be pushed several at once', async () => {
    const directory = hostTemp();
    const names = ['a', 'b', 'c', 'd'];
    await Promise.all(names.map((name) => writeFile(join(directory, name), name.repeat(100_000))));

    await Promise.all(names.map((name) => vm.push(join(directory, name), `/root/at-once/${name}`)));

    const { stdout } = await vm.exec([
      'sh',
      '-c',
      'cd /root/at-once; for f in *; do tr -s a-z <$f; echo; done',
    ]);
    expect(stdout).toBe('a\nb\nc\nd\n');
  });

  it('that are not there, or cannot be written, are named', async () => {
    const directory = hostTemp();
    await writeFile(join(directory, 'file'), 'x');
    const wrong = expect.objectContaining({ code: 'INPUT_INVALID' });

    await expect(vm.push('/no/such/file', '/root/x')).rejects.toEqual(wrong);
    await expect(vm.push(join(directory, 'file'), '/proc/nowhere/file')).rejects.toEqual(wrong);
    await expect(vm.push(join(directory, 'file'), '/usr')).rejects.toThrow('/usr is a directory');
    await expect(vm.pull('/no/such/file', join(directory, 'y'))).rejects.toThrow(
      '/no/such/file: no such file',
    );
    expect(existsSync(join(directory, 'y'))).toBe(false);
  });

  it('that do not fit into the guest’s memory say so', async () => {
    const directory = hostTemp();
    await writeFile(join(directory, 'large'), randomBytes(3_000_000));
    await vm.exec(['sh', '-c', 'mkdir -p /mnt/small; mount -t tmpfs -o size=1m tmpfs /mnt/small']);
    const full = expect.objectContaining({ code: 'DISK_FULL' });

    await expect(vm.push(join(directory, 'large'), '/mnt/small/file')).rejects.toEqual(full);
    await expect(vm.push(directory, '/mnt/small/directory')).rejects.toEqual(full);

    const { stdout } = await vm.exec(['sh', '-c', 'ls /mnt/small; umount /mnt/small']);
    expect(stdout).toBe('directory\n');
  });
});

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
    await expect(boot(vm.name)).rejects.toMatchObject({ code: 'GUEST_EXISTS' });
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
    await (await boot('first', spec))[Symbol.asyncDispose]();
    const template = newestTemplate();
    const state = join(template, 'state');
    await writeFile(state, Buffer.alloc(statSync(state).size, 'not a snapshot'));
    const events: Progress[] = [];

    await using guest = await boot('second', spec, events);

    expect((await guest.exec(['true'])).status).toBe(0);
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'warning', message: expect.stringContaining('template is made anew') }),
    );
  });
});

/** The template made last, wherever the cache is. */
function newestTemplate(): string {
  const templates = join(cacheDir(), 'templates');
  const paths = readdirSync(templates)
    .filter((name) => /^[0-9a-f]{24}$/.test(name))
    .map((name) => join(templates, name));
  paths.sort((a, b) => statSync(join(b, 'state')).mtimeMs - statSync(join(a, 'state')).mtimeMs);
  if (paths[0] === undefined) throw new Error('no template was made');
  return paths[0];
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
