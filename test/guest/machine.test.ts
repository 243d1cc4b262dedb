import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, statSync, symlinkSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connectVm } from '../../vm/machine/qemu-vm.js';
import type { Vm } from '../../vm/vm.js';
import { expectQuietKernel, hostTemp, sharedVm } from './guest.js';

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
    let flooded: Promise<void> | undefined;
    await new Promise<void>((resolve) => {
      const onStdout = (): void => {
        resolve();
      };
      flooded = expect(vm.exec(['yes'], { signal: stop.signal, onStdout })).rejects.toThrow('enough');
    });

    const { stdout } = await vm.exec(['echo', 'quick']);
    stop.abort(new Error('enough'));
    await flooded;

    expect(stdout).toBe('quick\n');
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
