import { hostname } from 'node:os';
import Docker from 'dockerode';
import { errnoOf, FastioError } from '../errors.js';
import { ownerState, ownerToken, parseToken } from '../image/owner.js';
import { orAbort } from '../wait.js';

/** Marks our containers; the value is the token of the process that started one (image/owner.ts). */
export const ownerLabel = 'io.fastio.owner';
/** Two hosts can share an engine, and their tokens do not tell them apart. */
export const hostLabel = 'io.fastio.host';

/** Facts about the engine that belong to a result's host fingerprint. */
export interface EngineFacts {
  readonly engine: string;
  readonly engineKernel: string;
  readonly engineCpus: number;
  readonly engineMemoryMiB: number;
}

/** How long an engine may take to answer at all, in milliseconds. */
const answerMs = 10_000;

/**
 * The engine that DOCKER_HOST names, or the one at Docker's usual place.
 * @throws FastioError ENGINE_MISSING when none answers, ENGINE_REFUSED when it does not let us in.
 */
export async function connectEngine(signal: AbortSignal): Promise<Docker> {
  const docker = new Docker();
  try {
    await orAbort(docker.ping(), AbortSignal.any([signal, AbortSignal.timeout(answerMs)]));
    return docker;
  } catch (error) {
    signal.throwIfAborted();
    throw explainEngine(error);
  }
}

/** What an engine's refusal means to users. A FastioError passes unchanged. */
export function explainEngine(error: unknown): FastioError {
  if (error instanceof FastioError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const at = process.env['DOCKER_HOST'] ?? '/var/run/docker.sock';
  if (['EACCES', 'EPERM'].includes(errnoOf(error) ?? '')) {
    return new FastioError(
      'ENGINE_REFUSED',
      `the container engine at ${at} does not let this user in`,
      'Join its group (sudo usermod -aG docker $USER, then log in again), or set DOCKER_HOST to an engine of yours.',
      { cause: error },
    );
  }
  if (/no space left/i.test(text)) {
    return new FastioError('DISK_FULL', `the container engine: ${text}`, 'Run `docker system prune`.', {
      cause: error,
    });
  }
  if (/device information|no such device/i.test(text)) {
    return new FastioError('ENGINE_REFUSED', `the container engine: ${text}`, 'Use --accel tcg.', {
      cause: error,
    });
  }
  if (
    ['ENOENT', 'ECONNREFUSED', 'ENOTFOUND', 'ETIMEDOUT', 'EHOSTUNREACH'].includes(errnoOf(error) ?? '') ||
    (error instanceof Error && error.name === 'TimeoutError')
  ) {
    return new FastioError(
      'ENGINE_MISSING',
      `no container engine answers at ${at}: ${text}`,
      'Start Docker, set DOCKER_HOST, or use --backend native.',
      { cause: error },
    );
  }
  return new FastioError(
    'ENGINE_REFUSED',
    `the container engine: ${text}`,
    'Do what it asks for, or use --backend native.',
    { cause: error },
  );
}

export async function engineFacts(docker: Docker): Promise<EngineFacts> {
  const info = (await docker.info()) as {
    readonly ServerVersion: string;
    readonly OperatingSystem: string;
    readonly KernelVersion: string;
    readonly Driver: string;
    readonly NCPU: number;
    readonly MemTotal: number;
  };
  return {
    engine: `Docker ${info.ServerVersion}, ${info.Driver}, ${info.OperatingSystem}`,
    engineKernel: info.KernelVersion,
    engineCpus: info.NCPU,
    engineMemoryMiB: Math.round(info.MemTotal / 1_048_576),
  };
}

/** Labels of a container that this process owns. */
export function ownLabels(): Record<string, string> {
  return { [ownerLabel]: ownerToken(), [hostLabel]: hostname() };
}

/** Removes containers whose owner was killed; returns their names. */
export async function sweepContainers(docker: Docker): Promise<readonly string[]> {
  const filters = { label: [ownerLabel, `${hostLabel}=${hostname()}`] };
  const swept: string[] = [];
  for (const { Id, Names, Labels } of await docker.listContainers({ all: true, filters })) {
    const owner = parseToken(Labels[ownerLabel] ?? '');
    if (owner === undefined || ownerState(owner) !== 'dead') continue;
    await removeContainer(docker, Id);
    swept.push((Names[0] ?? Id).replace(/^\//, ''));
  }
  return swept;
}

/** Removes a container whatever it is doing; one that is gone, or is being removed, is no error. */
export async function removeContainer(docker: Docker, id: string): Promise<void> {
  try {
    await docker.getContainer(id).remove({ force: true, v: true });
  } catch (error) {
    const status = (error as { readonly statusCode?: number }).statusCode;
    if (status !== 404 && status !== 409) throw explainEngine(error);
  }
}
