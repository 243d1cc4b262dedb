import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run, runOrThrow } from '../../vm/exec.js';
import { toolCommand, toolsRoot } from '../../vm/image/tools.js';
import { connectVm } from '../../vm/machine/qemu-vm.js';
import type { Vm } from '../../vm/vm.js';
import type { Context } from '../context.js';

const guestSsh = '/run/fastio-ssh';

/**
 * `fastio shell`: ssh into the guest. The connection runs through the guest's own channel (sshd in inetd mode), so
 * it needs no network, no port and no password: both keys are made for this guest and die with it.
 */
export async function shell(
  argv: readonly string[],
  options: { readonly name: string },
  context: Context,
): Promise<number> {
  const root = await toolsRoot('run', context);
  const keys = await (async () => {
    await using vm = await connectVm(options.name, { signal: context.signal });
    return await prepareKeys(vm, root, context.signal); // The guest’s connection must outlive the work.
  })();
  const proxy = [process.execPath, process.argv[1] ?? '', '--quiet', 'exec', '--name', options.name, '--'];
  const sshd = ['/usr/sbin/sshd', '-i', '-e', '-f', `${guestSsh}/sshd_config`];
  const command = toolCommand(root, 'ssh', [
    ...[
      '-F',
      'none',
      '-i',
      keys.identity,
      '-o',
      'IdentitiesOnly=yes',
      '-o',
      `UserKnownHostsFile=${keys.knownHosts}`,
    ],
    ...['-o', 'StrictHostKeyChecking=yes', '-o', 'HostKeyAlias=guest', '-o', 'LogLevel=ERROR'],
    ...['-o', `ProxyCommand=${[...proxy, ...sshd].map((word) => `'${word}'`).join(' ')} 2>/dev/null`],
    'root@guest',
    ...(argv.length === 0 ? [] : ['--', ...argv]),
  ]);
  return new Promise((resolve, reject) => {
    const ssh = spawn(command[0] ?? '', command.slice(1), {
      stdio: 'inherit',
      env: { ...process.env, SHELL: '/bin/sh' },
    });
    ssh.on('error', reject);
    ssh.on('exit', (code, signal) => {
      resolve(signal === null ? (code ?? 255) : 255);
    });
  });
}

interface Keys {
  readonly identity: string;
  readonly knownHosts: string;
}

/** Makes the guest's key pair on first use and tells both sides of it. */
async function prepareKeys(vm: Vm, root: string, signal: AbortSignal): Promise<Keys> {
  const directory = join(vm.info.directory, 'ssh');
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const identity = join(directory, 'id_ed25519');
  const knownHosts = join(directory, 'known_hosts');
  const keygen = toolCommand(root, 'ssh-keygen', [
    '-q',
    '-t',
    'ed25519',
    '-N',
    '',
    '-C',
    'fastio',
    '-f',
    identity,
  ]);
  const known = await run(['test', '-s', knownHosts], { signal });
  if (known.status === 0) return { identity, knownHosts };
  await runOrThrow(['rm', '-f', identity, `${identity}.pub`], { signal });
  await runOrThrow(keygen, { signal });
  const { stdout: publicKey } = await runOrThrow(['cat', `${identity}.pub`], { signal });
  const config = [
    `HostKey ${guestSsh}/host_key`,
    `AuthorizedKeysFile ${guestSsh}/authorized_keys`,
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'UsePAM no',
    'StrictModes no',
    'PrintLastLog no',
    'Subsystem sftp internal-sftp',
  ].join('\n');
  const script = [
    'set -e',
    `mkdir -p ${guestSsh} /run/sshd && chmod 700 ${guestSsh}`,
    `ssh-keygen -q -t ed25519 -N '' -f ${guestSsh}/host_key`,
    `printf '%s\\n' "$CONFIG" > ${guestSsh}/sshd_config`,
    `printf '%s\\n' "$PUBLIC_KEY" > ${guestSsh}/authorized_keys`,
    `cat ${guestSsh}/host_key.pub`,
  ].join('\n');
  const made = await vm.exec(['sh', '-c', script], {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', CONFIG: config, PUBLIC_KEY: publicKey.trim() },
    signal,
  });
  if (made.status !== 0) throw new Error(`the guest made no ssh host key: ${made.stderr}`);
  await writeFile(knownHosts, `guest ${made.stdout.trim()}\n`);
  return { identity, knownHosts };
}
