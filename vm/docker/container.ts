import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { PassThrough, type Readable } from 'node:stream';
import type Docker from 'dockerode';
import type { StartedTestContainer } from 'testcontainers';
import { FastioError } from '../errors.js';
import type { Work } from '../image/work.js';
import { orAbort } from '../wait.js';
import { explainEngine, ownLabels, removeContainer, sweepContainers } from './engine.js';
import type { Order } from './order.js';

/** Where images and tools are kept inside; a volume of this name keeps them from one container to the next. */
const cacheInside = '/var/cache/fastio';
const defaultVolume = 'fastio-cache';
const programInside = '/opt/fastio/dist/vm/docker/inside.js';
export const mainInside = '/opt/fastio/dist/cli/main.js';

/** What builds need to chroot into the compilers' root and to drop to a user who cannot write there, and no more. */
const capabilities = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'KILL', 'MKNOD', 'SETGID', 'SETUID', 'SYS_CHROOT'];

export interface ContainerOptions {
  readonly image: string;
  /** Directories of the host that appear at the same path inside. */
  readonly binds: readonly string[];
  readonly workingDir: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Share the host's network, for ports of a guest that the host's loopback shall lead to. */
  readonly hostNetwork: boolean;
  /** Pass /dev/kvm on, where this machine has one. */
  readonly kvm: boolean;
}

/** A container at work on its order. */
export interface Container {
  readonly started: StartedTestContainer;
  readonly input: NodeJS.ReadWriteStream;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** The exit status of what it was started for. */
  readonly exited: Promise<number>;
  /** Ends and removes it, whatever it is doing. */
  remove(): Promise<void>;
}

/**
 * Starts a container that works on one order and ends with this process. Containers whose process was killed before
 * they had a connection to it are removed first.
 * @throws FastioError ENGINE_REFUSED with the engine's words.
 */
export async function startContainer(
  docker: Docker,
  options: ContainerOptions,
  order: Order,
  { report, signal }: Work,
): Promise<Container> {
  for (const name of await sweepContainers(docker)) {
    report({ kind: 'line', from: 'host', text: `removed container ${name}, whose owner was killed` });
  }
  const started = await start(docker, options, signal);
  const id = started.getId();
  try {
    const container = docker.getContainer(id);
    const input = await container.attach({
      stream: true,
      stdin: true,
      stdout: true,
      stderr: true,
      hijack: true,
    });
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    docker.modem.demuxStream(input, stdout, stderr);
    input.on('error', () => undefined);
    input.once('close', () => {
      stdout.end();
      stderr.end();
    });
    input.once('end', () => {
      stdout.end();
      stderr.end();
    });
    const exited = container.wait().then(
      ({ StatusCode }: { readonly StatusCode: number }) => StatusCode,
      (error: unknown) => {
        throw explainEngine(error);
      },
    );
    exited.catch(() => undefined);
    if (!input.write(`${JSON.stringify(order)}\n`)) await orAbort(once(input, 'drain'), signal);
    return { started, input, stdout, stderr, exited, remove: () => removeContainer(docker, id) };
  } catch (error) {
    await removeContainer(docker, id);
    signal.throwIfAborted();
    throw explainEngine(error);
  }
}

async function start(
  docker: Docker,
  options: ContainerOptions,
  signal: AbortSignal,
): Promise<StartedTestContainer> {
  // The container ends with our connection, so nobody has to watch over it; and no image is pulled for that.
  process.env['TESTCONTAINERS_RYUK_DISABLED'] ??= 'true';
  process.env['TESTCONTAINERS_HOST_OVERRIDE'] ??= 'localhost';
  const { GenericContainer } = await import('testcontainers');
  const volume = process.env['FASTIO_DOCKER_VOLUME'] ?? defaultVolume;
  const container = new GenericContainer(options.image)
    .withEntrypoint(['tini', '--', 'node', programInside])
    .withWorkingDir(options.workingDir)
    .withEnvironment({ ...passedOn(), ...options.environment })
    .withLabels(ownLabels())
    .withDroppedCapabilities('ALL')
    .withAddedCapabilities(...capabilities)
    .withSecurityOpt('no-new-privileges')
    .withBindMounts([
      { source: volume, target: cacheInside, mode: 'rw' },
      ...options.binds.map((path) => ({ source: path, target: path, mode: 'rw' as const })),
    ])
    .withStartupTimeout(60_000);
  if (options.hostNetwork) container.withNetworkMode('host');
  // testcontainers has no words for these.
  Object.assign(container['createOpts'], { OpenStdin: true, StdinOnce: true });
  if (options.kvm && existsSync('/dev/kvm')) {
    container['hostConfig'].Devices = [
      { PathOnHost: '/dev/kvm', PathInContainer: '/dev/kvm', CgroupPermissions: 'rw' },
    ];
  }
  const starting = container.start();
  try {
    return await orAbort(starting, signal);
  } catch (error) {
    // Given up while it was starting: it must not stay.
    void starting.then(
      (late) => removeContainer(docker, late.getId()),
      () => undefined,
    );
    signal.throwIfAborted();
    throw explainEngine(error);
  }
}

/** What the inside has to know of our environment. */
function passedOn(): Record<string, string> {
  const names = ['FASTIO_MIRROR', 'NO_COLOR', 'http_proxy', 'https_proxy', 'no_proxy'];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** The error of a container that ended before its work did. */
export function containerGone(status: number | undefined): FastioError {
  const how = status === undefined ? 'vanished' : `ended with status ${status}`;
  return new FastioError(
    'CONTAINER_GONE',
    `the container ${how} before its work was done${status === 137 ? ': somebody killed it, or memory ran out' : ''}`,
    'Look at `docker events` and the engine’s memory limit, then run it again.',
  );
}
