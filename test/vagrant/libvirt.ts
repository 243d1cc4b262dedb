import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FastioError } from '../../vm/errors.js';
import { run, runOrThrow } from '../../vm/exec.js';
import { deadline, until } from '../../vm/wait.js';

/** A libvirt for the tests, or the user's own. */
export interface TestLibvirt extends AsyncDisposable {
  readonly uri: string;
}

/** Names of what Vagrant makes in it for us. */
export const names = { pool: 'fastio-test', network: 'fastio-test', prefix: 'fastio-test-' } as const;

const upMs = 60_000;
const packages = [
  ...['vagrant', 'vagrant-libvirt', 'libvirt-daemon-system', 'libvirt-daemon-driver-qemu', 'libvirt-clients'],
  ...['dnsmasq-base', 'qemu-utils', process.arch === 'arm64' ? 'qemu-system-arm' : 'qemu-system-x86'],
];

/**
 * The libvirt that runs on this machine; where none does and we are root, Debian's, started below `directory` and ended
 * with the test. It has a storage pool of our own, so that no volume of ours stays in the user's.
 */
export async function startLibvirt(directory: string, signal: AbortSignal): Promise<TestLibvirt> {
  await install(signal);
  const own = await answers('qemu:///system');
  if (!own && process.getuid?.() !== 0) {
    throw new FastioError('TOOL_MISSING', 'no libvirt answers at qemu:///system', 'Start libvirtd.');
  }
  const daemons: ChildProcess[] = [];
  const uri = own ? 'qemu:///system' : `qemu+unix:///system?socket=${directory}/libvirt-sock`;
  const stop = async (): Promise<void> => {
    if (await answers(uri)) await removeOurs(uri);
    // libvirtd first: it talks to the other one.
    for (const daemon of [...daemons].reverse()) await end(daemon);
  };
  try {
    if (!own) {
      const config = join(directory, 'libvirtd.conf');
      // Whoever gets at the socket is root: nobody else may.
      const access = 'auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\nunix_sock_ro_perms = "0700"\n';
      await writeFile(config, `unix_sock_dir = "${directory}"\n${access}`);
      daemons.push(daemon('virtlogd', ['--pid-file', join(directory, 'virtlogd.pid')]));
      daemons.push(daemon('libvirtd', ['--config', config, '--pid-file', join(directory, 'libvirtd.pid')]));
    }
    const late = new FastioError('TIMEOUT', 'libvirtd does not answer', 'Read what it says above.');
    const up = async (): Promise<boolean> => {
      if (daemons.some(({ exitCode }) => exitCode !== null)) {
        throw new FastioError('TOOL_MISSING', 'libvirtd ended at once', 'Read what it says above.');
      }
      return await answers(uri);
    };
    await until(up, { everyMs: 500, signal: AbortSignal.any([signal, deadline(upMs, late)]) });
    await removeOurs(uri);
    const pool = join(directory, 'pool');
    await mkdir(pool);
    await runOrThrow(['virsh', '-c', uri, 'pool-create-as', names.pool, 'dir', '--target', pool], { signal });
    return { uri, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Installs Debian's packages unless they are there. */
async function install(signal: AbortSignal): Promise<void> {
  const there = await Promise.all(
    ['vagrant', 'libvirtd', 'virsh', 'dnsmasq', 'qemu-img'].map(
      async (program) =>
        (await run(['sh', '-c', `PATH="$PATH:/usr/sbin" command -v ${program}`], { signal })).status,
    ),
  );
  if (there.every((status) => status === 0)) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await runOrThrow(['apt-get', 'update', '-qq'], { env, signal });
  const options = ['-y', '-qq', '--no-install-recommends'];
  await runOrThrow(['apt-get', 'install', ...options, ...packages], { env, signal });
}

/**
 * Starts a daemon as the second process of a PID namespace, which ends with this process, and with it all that the daemon
 * started. The first one is a shell that reaps: libvirtd waits 15 s for each of its own children that nobody does,
 * as in containers whose first process is no init.
 */
function daemon(program: string, args: readonly string[]): ChildProcess {
  const bound = ['--pdeathsig', 'KILL', 'unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const shell = ['sh', '-c', '"$@" & wait $!', 'sh'];
  return spawn('setpriv', [...bound, ...shell, `/usr/sbin/${program}`, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

async function answers(uri: string): Promise<boolean> {
  return (await run(['virsh', '-c', uri, 'version'])).status === 0;
}

/** Takes out what an earlier test, or this one, left; not being there is fine. */
async function removeOurs(uri: string): Promise<void> {
  const { network, pool, prefix } = names;
  for (const command of [
    ['destroy', `${prefix}default`],
    ['undefine', `${prefix}default`],
    ['net-destroy', network],
    ['net-undefine', network],
    ['pool-destroy', pool],
  ])
    await run(['virsh', '-c', uri, ...command]);
}

/** The namespace's end is that of all in it; unshare holds gentler signals off. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
