import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { run, runOrThrow } from '../../vm/exec.js';
import { FastioError } from '../../vm/errors.js';
import { hostMirrors } from '../../vm/image/mirrors.js';
import { deadline, until } from '../../vm/wait.js';

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
 * has to have, or to pull, the base that FASTIO_DOCKER_BASE names. When the signal aborts, nothing of it stays.
 */
export async function startEngine(signal: AbortSignal): Promise<TestEngine> {
  if (process.env['DOCKER_HOST'] !== undefined || process.getuid?.() !== 0) return await ownEngine();
  await install('dockerd', ['docker.io', 'iptables'], signal);
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
    const answers = async (): Promise<boolean> => {
      if (daemon.exitCode !== null) throw new Error(`dockerd ended with ${daemon.exitCode}:\n${log}`);
      return await docker.ping().then(
        () => true,
        () => false,
      );
    };
    const late = new FastioError('TIMEOUT', 'dockerd does not answer', 'Read its log.');
    const giveUp = AbortSignal.any([signal, deadline(upMs, late)]);
    await until(answers, { everyMs: 200, signal: giveUp }).catch((error: unknown) => {
      throw new Error(`dockerd did not start:\n${log}`, { cause: error });
    });
    await importBase(address, directory, signal);
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
async function install(program: string, packages: readonly string[], signal: AbortSignal): Promise<void> {
  if ((await run(['sh', '-c', `command -v ${program}`], { signal })).status === 0) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await runOrThrow(['apt-get', 'update', '-qq'], { env, signal });
  await runOrThrow(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages], {
    env,
    signal,
  });
}

/** Debian trixie from its packages: no registry is needed. */
async function importBase(address: string, directory: string, signal: AbortSignal): Promise<void> {
  await install('mmdebstrap', ['mmdebstrap'], signal);
  const archive = join(directory, 'base.tar');
  const options = ['--quiet', '--variant=minbase', 'trixie', archive];
  await runOrThrow(['mmdebstrap', ...options, ...hostMirrors().slice(0, 1)], { signal });
  await runOrThrow(['docker', '--host', address, 'import', archive, base], { signal });
  await rm(archive);
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
