import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { run, runOrThrow } from '../../vm/exec.js';
import { deadline, until } from '../../vm/wait.js';
import { FastioError } from '../../vm/errors.js';

/** A container engine for the tests, or the user's own. */
export interface TestEngine extends AsyncDisposable {
  /** For DOCKER_HOST. */
  readonly address: string;
  /** For FASTIO_DOCKER_BASE. */
  readonly base: string;
  readonly docker: Docker;
}

const upMs = 60_000;
const downMs = 30_000;
const base = 'fastio-test-base:trixie';

/**
 * Starts an engine of our own from Debian's packages, with all of its data below a temporary directory, and gives it a
 * base image made of Debian packages. Where DOCKER_HOST is set, or we are not root, the user's engine is taken, which
 * has to have, or to pull, the base that FASTIO_DOCKER_BASE names.
 */
export async function startEngine(): Promise<TestEngine> {
  if (process.env['DOCKER_HOST'] !== undefined || process.getuid?.() !== 0) return await ownEngine();
  await install('dockerd', ['docker.io', 'iptables']);
  const directory = await mkdtemp(join(tmpdir(), 'fastio-engine-'));
  const address = `unix://${directory}/sock`;
  const before = await forwardPolicy();
  const daemon = spawn(
    'dockerd',
    [
      ...['--data-root', join(directory, 'data'), '--exec-root', join(directory, 'exec')],
      ...['--pidfile', join(directory, 'pid'), '--host', address, '--mtu', '1400'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  daemon.stderr.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4_000)));
  const stop = (): Promise<void> => stopEngine(daemon, directory, before);
  try {
    const docker = new Docker({ socketPath: join(directory, 'sock') });
    const late = new FastioError('TIMEOUT', `dockerd does not answer:\n${log}`, 'Read its log.');
    const answers = async (): Promise<boolean> => {
      if (daemon.exitCode !== null) throw new Error(`dockerd ended with ${daemon.exitCode}:\n${log}`);
      return await docker.ping().then(
        () => true,
        () => false,
      );
    };
    await until(answers, { everyMs: 200, signal: deadline(upMs, late) });
    await importBase(address, directory);
    return { address, base, docker, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function ownEngine(): Promise<TestEngine> {
  const docker = new Docker();
  await docker.ping();
  const address = process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock';
  return {
    address,
    base: process.env['FASTIO_DOCKER_BASE'] ?? 'debian:trixie-slim',
    docker,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Installs packages of the host's Debian unless the program is there. */
async function install(program: string, packages: readonly string[]): Promise<void> {
  if ((await run(['sh', '-c', `command -v ${program}`])).status === 0) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await runOrThrow(['apt-get', 'update', '-qq'], { env });
  await runOrThrow(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages], { env });
}

/** Debian trixie from its packages: no registry is needed. */
async function importBase(address: string, directory: string): Promise<void> {
  await install('mmdebstrap', ['mmdebstrap']);
  const archive = join(directory, 'base.tar');
  await runOrThrow([
    'mmdebstrap',
    '--quiet',
    '--variant=minbase',
    'trixie',
    archive,
    ...(await hostMirror()),
  ]);
  await runOrThrow(['docker', '--host', address, 'import', archive, base]);
  await rm(archive);
}

/** The mirror the host uses, where it is a Debian. */
async function hostMirror(): Promise<readonly string[]> {
  const { hostMirrors } = await import('../../vm/image/mirrors.js');
  return hostMirrors().slice(0, 1);
}

async function forwardPolicy(): Promise<string | undefined> {
  const { status, stdout } = await run(['iptables', '-S', 'FORWARD']);
  return status === 0 ? /^-P FORWARD (\S+)/m.exec(stdout)?.[1] : undefined;
}

/** Ends the daemon by its pid and takes back what it leaves: policy, bridge, mounts, files. */
async function stopEngine(
  daemon: ChildProcess,
  directory: string,
  policy: string | undefined,
): Promise<void> {
  if (daemon.exitCode === null) {
    const ended = new Promise<void>((resolve) => {
      daemon.once('exit', () => {
        resolve();
      });
    });
    daemon.kill('SIGTERM');
    const late = setTimeout(() => daemon.kill('SIGKILL'), downMs);
    await ended;
    clearTimeout(late);
  }
  if (policy !== undefined) await run(['iptables', '-P', 'FORWARD', policy]);
  if (existsSync('/sys/class/net/docker0')) await run(['ip', 'link', 'delete', 'docker0']);
  for (const mount of [...(await mountsBelow(directory))].reverse()) await run(['umount', '--lazy', mount]);
  await rm(directory, { recursive: true, force: true });
}

async function mountsBelow(directory: string): Promise<readonly string[]> {
  const text = await readFile('/proc/self/mounts', 'utf8');
  return text
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${directory}/`));
}
