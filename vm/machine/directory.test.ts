import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { ownerOf, ownerToken } from '../image/owner.js';
import {
  checkName,
  claimDirectory,
  liveGuests,
  readState,
  sweepDirectories,
  writeState,
  type GuestState,
} from './directory.js';

let directory: string;
let saved: string | undefined;
const children: ChildProcess[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fastio-dirs-'));
  saved = process.env['FASTIO_RUN_DIR'];
  process.env['FASTIO_RUN_DIR'] = directory;
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
  if (saved === undefined) delete process.env['FASTIO_RUN_DIR'];
  else process.env['FASTIO_RUN_DIR'] = saved;
});

function state(name: string, keeper: string, qemu?: string): GuestState {
  return {
    name,
    spec: {
      ...{ arch: 'arm64', kernel: '6.12', cpus: 1, memoryMiB: 256, qemu: 'locked' },
      ...{ forwards: [], kernelArgs: [], qemuArgs: [] },
    },
    state: 'running',
    detached: true,
    keeper,
    startedAtMs: 0,
    ...(qemu === undefined ? {} : { qemu }),
  };
}

async function sleeper(): Promise<ChildProcess> {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  children.push(child);
  await new Promise((resolve) => child.once('spawn', resolve));
  return child;
}

/** The token of a process that has ended. */
async function deadToken(): Promise<string> {
  const child = await sleeper();
  const token = ownerToken(ownerOf(child.pid));
  await new Promise((resolve) => {
    child.once('exit', resolve);
    child.kill('SIGKILL');
  });
  return token;
}

it.each(['a', 'main', 'test-123', '0', 'x'.repeat(32)])('takes %s for a name', (name) => {
  expect(() => {
    checkName(name);
  }).not.toThrow();
});

it.each(['', 'A', '-a', 'a/b', '..', '.failed', 'a b', 'ä', 'x'.repeat(33)])(
  'refuses %p as a name',
  (name) => {
    expect(() => {
      checkName(name);
    }).toThrow(expect.objectContaining({ code: 'USAGE' }));
  },
);

it('gives a name to one guest at a time, and leaves no half-made directory', async () => {
  const claims = await Promise.allSettled([1, 2, 3, 4].map(() => claimDirectory(state('one', ownerToken()))));

  expect(claims.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const claim of claims) {
    if (claim.status === 'rejected') expect(claim.reason).toMatchObject({ code: 'GUEST_EXISTS' });
  }
  expect(readdirSync(directory)).toEqual(['one']);
});

it('refuses a run directory whose path is too long for a socket, before anything is made', async () => {
  process.env['FASTIO_RUN_DIR'] = join(directory, 'x'.repeat(90));

  await expect(claimDirectory(state('one', ownerToken()))).rejects.toMatchObject({
    code: 'HOST_UNSUPPORTED',
  });
});

it('lists the guests whose keeper lives, and sweeps the others with their QEMU', async () => {
  const qemu = await sleeper();
  const killed = new Promise((resolve) =>
    qemu.once('exit', (_, signal) => {
      resolve(signal);
    }),
  );
  await claimDirectory(state('alive', ownerToken()));
  await claimDirectory(state('stale', await deadToken(), ownerToken(ownerOf(qemu.pid))));

  const before = await liveGuests();
  const swept = await sweepDirectories();

  expect(before.map(({ name }) => name)).toEqual(['alive']);
  expect(swept).toEqual(['guest stale, whose keeper was killed']);
  expect(await killed).toBe('SIGKILL');
  expect(readdirSync(directory)).toEqual(['alive']);
});

it('does not kill a process that got the pid of a QEMU long gone', async () => {
  const bystander = await sleeper();
  const [pid = '', , namespace = ''] = ownerToken(ownerOf(bystander.pid)).split('-');
  await claimDirectory(state('stale', await deadToken(), `${pid}-1-${namespace}`));

  await sweepDirectories();

  expect(bystander.exitCode).toBeNull();
  expect(bystander.signalCode).toBeNull();
  expect(() => process.kill(Number(pid), 0)).not.toThrow();
});

it('sweeps what a killed claim left, and not what a live one is making', async () => {
  await mkdir(join(directory, `.new-${await deadToken()}-x`));
  await mkdir(join(directory, `.new-${ownerToken()}-y`));

  await sweepDirectories();

  expect(readdirSync(directory)).toEqual([`.new-${ownerToken()}-y`]);
});

it('reads back a state it wrote, and takes a torn one for none', async () => {
  const path = await claimDirectory(state('one', ownerToken()));
  await writeState(path, { ...state('one', ownerToken()), state: 'dead', died: 'panic' });
  const whole = await readState(path);
  await writeFile(join(path, 'state.json'), '{"name": "o');

  expect(whole).toMatchObject({ state: 'dead', died: 'panic' });
  expect(await readState(path)).toBeUndefined();
  expect(await readState(join(directory, 'nowhere'))).toBeUndefined();
});
