import { spawn } from 'node:child_process';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { ownerToken } from '../image/owner.js';
import type { GuestImage } from '../image/image.js';
import { runDir } from '../paths.js';
import type { Accel, VmSpec } from '../vm.js';
import { kvmFingerprint, type Trial } from './accel.js';
import { kernelCommandLine, machineArguments } from './command-line.js';
import type { QemuProgram } from './program.js';
import { slowness } from './slowness.js';

/** What the agent prints when started with --sentinel; see vm/guest/agent.c. */
const sentinel = 'fastio-guest: user space runs';
/** QEMU may go on running after these. */
const hopeless =
  /KVM internal error|failed to (?:set|get) MSR|^qemu-system-\w+: .*(?:failed|invalid|not supported).*$/im;
/** Until the sentinel, in milliseconds as on hardware; hardware that needs longer is of no use. */
const trialMs = 8_000;
/** How long an answer stands. A machine's ability seldom changes, but an administrator may change it. */
const standsMs = 10 * 60_000;

export interface TrialOptions {
  readonly qemu: QemuProgram;
  readonly image: GuestImage;
  readonly spec: VmSpec;
  readonly signal: AbortSignal;
}

type Verdict = Awaited<ReturnType<Trial>>;

/** Boots the guest's kernel and agent, without disks, and waits for the agent to say that it runs. */
export function bootTrial(options: TrialOptions): Trial {
  return async (accel) => {
    const memo = await memoPath(accel, options);
    const known = await readMemo(memo);
    if (known !== undefined) return known;
    const verdict = await runTrial(accel, options);
    const temp = `${memo}.${ownerToken()}`;
    await mkdir(join(runDir(), '.accel'), { recursive: true });
    await writeFile(temp, JSON.stringify({ verdict, atMs: Date.now() }));
    await rename(temp, memo);
    return verdict;
  };
}

async function memoPath(accel: Accel, { qemu, image }: TrialOptions): Promise<string> {
  const hostBoot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  const key = [accel, hostBoot, image.id, ...qemu.command, qemu.version, await kvmFingerprint()].join('\n');
  return join(runDir(), '.accel', createHash('sha256').update(key).digest('hex').slice(0, 16));
}

async function readMemo(path: string): Promise<Verdict | undefined> {
  try {
    const { verdict, atMs } = JSON.parse(await readFile(path, 'utf8')) as { verdict: Verdict; atMs: number };
    const age = Date.now() - atMs;
    return age >= 0 && age < standsMs ? verdict : undefined;
  } catch {
    return undefined;
  }
}

async function runTrial(accel: Accel, { qemu, image, spec, signal }: TrialOptions): Promise<Verdict> {
  const plain = {
    ...spec,
    cpus: 1,
    memoryMiB: 512,
    kernelArgs: ['rdinit=/agent', '--', '--sentinel'],
    qemuArgs: [],
  };
  const [program = '', ...args] = [
    ...qemu.command,
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
    ...machineArguments(plain, accel, false),
    ...['-m', '512M', '-kernel', image.kernel, '-initrd', image.initrd, '-append', kernelCommandLine(plain)],
  ];
  signal.throwIfAborted();
  const started = performance.now();
  const limitMs = trialMs * slowness(accel);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let console = '';
  const verdict = await new Promise<Verdict>((resolve) => {
    const fail = (reason: string): void => {
      resolve({ usable: false, reason });
    };
    const timer = setTimeout(() => {
      fail(`a trial guest did not reach user space in ${Math.round(limitMs / 1_000)} s${lastLine(console)}`);
    }, limitMs);
    signal.addEventListener('abort', () => {
      fail('interrupted');
    });
    child.stdout.on('data', (chunk: Buffer) => {
      console = (console + chunk.toString()).slice(-8_192);
      if (!console.includes(sentinel)) return;
      const seconds = ((performance.now() - started) / 1_000).toFixed(1);
      resolve({ usable: true, reason: `a trial guest reached user space in ${seconds} s` });
    });
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const line = said.split('\n').find((each) => hopeless.test(each));
      if (line !== undefined) fail(`QEMU says: ${line.replace(/^\S*qemu-system-\w+: /, '').trim()}`);
    });
    child.once('error', (error) => {
      fail(error.message);
    });
    child.once('close', (status, killedBy) => {
      clearTimeout(timer);
      const words = said.trimEnd().split('\n').at(-1) ?? '';
      fail(`QEMU ended (${killedBy ?? `status ${status ?? '?'}`}) before the guest ran: ${words}`);
    });
  });
  child.kill('SIGKILL');
  signal.throwIfAborted();
  return verdict;
}

function lastLine(console: string): string {
  const line = console.trimEnd().split('\n').at(-1) ?? '';
  return line === '' ? ', and printed nothing' : `; its last words: ${line.trim()}`;
}
