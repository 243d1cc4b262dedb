import { spawn } from 'node:child_process';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Duplex } from 'node:stream';
import { createInterface } from 'node:readline';
import { openLink } from '../machine/keeper-link.js';
import { checkName } from '../machine/directory.js';
import { decodeError, type WireError } from '../machine/plan.js';
import { checkSpec } from '../machine/spec.js';
import { createVm, type PushFiles } from '../machine/vm-client.js';
import { errnoOf, FastioError } from '../errors.js';
import type { Report } from '../progress.js';
import type { BootVm, VmInfo } from '../vm.js';
import { orAbort } from '../wait.js';
import { runnerImage } from './build.js';
import { containerGone, mainInside, startContainer, type Container } from './container.js';
import { connectEngine } from './engine.js';
import type { Answer } from './order.js';

/** How long a container may take to power its guest off, in milliseconds. */
const powerOffMs = 30_000;

/**
 * Boots a guest in a container of the engine; otherwise as `bootQemu`. The container holds QEMU, image and builds; what
 * leaves it is the guest's channel. It ends with the guest, and with this process.
 * @throws FastioError ENGINE_MISSING, ENGINE_REFUSED, NETWORK, CONTAINER_GONE, or what `bootQemu` throws inside.
 */
export const bootDocker: BootVm = async (spec, options) => {
  const { name, accel, requireAccel, patience, report, signal } = options;
  checkName(name);
  checkSpec(spec);
  if (options.detach === true) {
    throw new FastioError(
      'USAGE',
      'a guest in a container cannot outlive the command that starts it',
      'Use --backend native for `fastio up`.',
    );
  }
  const docker = await connectEngine(signal);
  const image = await runnerImage(docker, { report, signal });
  const container = await startContainer(
    docker,
    {
      image,
      binds: [],
      workingDir: '/',
      environment: {},
      hostNetwork: spec.forwards.length > 0,
      kvm: accel !== 'tcg',
    },
    {
      kind: 'boot',
      spec,
      options: { name, accel, requireAccel, ...(patience === undefined ? {} : { patience }) },
    },
    { report, signal },
  );
  try {
    const info = await orAbort(awaitBoot(container, report), signal);
    const stream = Duplex.from({ readable: container.stdout, writable: container.input });
    stream.on('error', () => undefined);
    let status: number | undefined;
    const ended = (code?: number): void => {
      status = code;
      // The engine ends its half of the connection only; nobody will answer on the other.
      stream.destroy();
    };
    void container.exited.then(ended, () => {
      ended();
    });
    const link = openLink(stream, () => containerGone(status));
    return createVm(name, info, link, {
      push: pushThrough(container, name),
      dispose: () => endContainer(container),
    });
  } catch (error) {
    await container.remove();
    throw error;
  }
};

/** Passes progress on until the guest answers, or says why it does not. */
async function awaitBoot(container: Container, report: Report): Promise<VmInfo> {
  const other: string[] = [];
  const lines = createInterface({ input: container.stderr });
  return await new Promise<VmInfo>((resolve, reject) => {
    lines.on('line', (line) => {
      const answer = parseAnswer(line);
      if (answer === undefined) other.push(line);
      else if (answer.kind === 'progress') report(answer.event);
      else if (answer.kind === 'booted') resolve(answer.info);
      else reject(decodeError(answer.error));
    });
    lines.once('close', () => {
      container.exited.then((status) => {
        const { message, remedy } = containerGone(status);
        reject(new FastioError('CONTAINER_GONE', message, remedy, { detail: other.slice(-20) }));
      }, reject);
    });
  });
}

function parseAnswer(line: string): Answer | undefined {
  try {
    return JSON.parse(line) as Answer;
  } catch {
    return undefined;
  }
}

/** Copies into the container, and from there into the guest as anybody in there would. */
function pushThrough({ started }: Container, name: string): PushFiles {
  let count = 0;
  return async (hostPath, guestPath, signal) => {
    const source = await realpath(hostPath).catch((error: unknown) => {
      throw new FastioError(
        'INPUT_INVALID',
        `cannot copy ${hostPath}: ${errnoOf(error) ?? String(error)}`,
        'Name a file or directory that is there.',
        { cause: error },
      );
    });
    count += 1;
    const directory = `/run/fastio/push-${count}`;
    try {
      await orAbort(started.exec(['mkdir', directory]), signal);
      const tar = spawn('tar', ['-c', '-C', dirname(source), '--', basename(source)], {
        stdio: ['ignore', 'pipe', 'ignore'],
        signal,
      });
      tar.on('error', () => undefined);
      await orAbort(started.copyArchiveToContainer(tar.stdout, directory), signal);
      const argv = [
        'node',
        mainInside,
        '--json',
        'cp',
        join(directory, basename(source)),
        `${name}:${guestPath}`,
      ];
      const result = await orAbort(started.exec(argv), signal);
      if (result.exitCode !== 0) throw copyError(result.stderr, hostPath);
    } finally {
      await started.exec(['rm', '-rf', directory]).catch(() => undefined);
    }
  };
}

/** The error that `fastio --json cp` printed, with the host's path for the container's. */
function copyError(stderr: string, hostPath: string): Error {
  const line = stderr.trimEnd().split('\n').at(-1) ?? '';
  try {
    const wire = JSON.parse(line) as WireError;
    return decodeError({
      ...wire,
      message: wire.message.replaceAll(/\/run\/fastio\/push-\d+\/[^\s:]*/g, hostPath),
    });
  } catch {
    return new FastioError(
      'CONTAINER_GONE',
      `copying ${hostPath} into the container failed: ${line}`,
      'Try again.',
    );
  }
}

/** Closes its input, upon which it powers its guest off; removes it in any case. */
async function endContainer(container: Container): Promise<void> {
  container.input.end();
  await orAbort(container.exited, AbortSignal.timeout(powerOffMs)).catch(() => undefined);
  await container.remove();
}
