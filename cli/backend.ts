import { stat } from 'node:fs/promises';
import { dirname, resolve, sep } from 'node:path';
import { userInfo } from 'node:os';
import { FastioError } from '../vm/errors.js';
import { run } from '../vm/exec.js';
import { runnerImage } from '../vm/docker/build.js';
import { containerGone, mainInside, startContainer } from '../vm/docker/container.js';
import { connectEngine, engineFacts } from '../vm/docker/engine.js';
import type { Context } from './context.js';
import type { Backend } from './options.js';

/** How long the inside may take to clean up after Ctrl-C, in milliseconds. */
const cleanUpMs = 8_000;

/** `--backend` with its argument, in either spelling. */
const backendWords = /^--backend(=.*)?$/;

/** What a command of this process is when it is run in a container. */
export interface Forwarded {
  /** Words after `fastio`, as they were typed. */
  readonly argv: readonly string[];
  /** Files and directories that the words name. What is not there yet appears in the directory above it. */
  readonly paths: readonly string[];
  readonly accel: string;
}

/**
 * Where a command shall run. `auto` means here, unless this machine lacks what that takes and has an engine.
 * @throws FastioError TOOL_MISSING when neither works.
 */
export async function chooseBackend(backend: Backend, context: Context): Promise<Exclude<Backend, 'auto'>> {
  if (backend !== 'auto') return backend;
  const missing = await missingHere(context.signal);
  if (missing === undefined) return 'native';
  try {
    await connectEngine(context.signal);
  } catch (error) {
    if (!(error instanceof FastioError)) throw error;
    throw new FastioError(
      'TOOL_MISSING',
      `${missing}, and there is no container engine to use instead: ${error.message}`,
      'Install what is missing, or Docker; `fastio doctor` tells more.',
      { cause: error },
    );
  }
  context.report({ kind: 'warning', message: `${missing}: using a container`, remedy: '' });
  return 'docker';
}

/** What a run without a container would fail for, or undefined. */
async function missingHere(signal: AbortSignal): Promise<string | undefined> {
  if (process.platform !== 'linux') return `${process.platform} has no tools of ours`;
  if (process.arch !== 'x64' && process.arch !== 'arm64') return `${process.arch} has no tools of ours`;
  for (const program of ['tar', 'xz']) {
    try {
      await run([program, '--version'], { signal });
    } catch (error) {
      if (error instanceof FastioError && error.code === 'TOOL_MISSING') return `there is no ${program} here`;
      throw error;
    }
  }
  return undefined;
}

/** Runs the same command in a container of the engine and returns its exit code. */
export async function forward({ argv, paths, accel }: Forwarded, context: Context): Promise<number> {
  const { signal, report } = context;
  const docker = await connectEngine(signal);
  const image = await runnerImage(docker, { report, signal });
  const directories = await directoriesOf([process.cwd(), ...paths]);
  const { uid, gid } = userInfo();
  const container = await startContainer(
    docker,
    {
      image,
      binds: directories,
      workingDir: process.cwd(),
      environment: {
        FASTIO_HOST_FACTS: JSON.stringify({ backend: 'docker', ...(await engineFacts(docker)) }),
      },
      hostNetwork: false,
      kvm: accel !== 'tcg',
    },
    {
      kind: 'run',
      argv: ['node', mainInside, ...withoutBackend(argv), '--backend', 'native'],
      owner: { uid, gid, paths: uid === 0 ? [] : directories.filter((path) => path !== '/') },
    },
    { report, signal },
  );
  container.stdout.pipe(process.stdout, { end: false });
  container.stderr.pipe(process.stderr, { end: false });
  const stop = (): void => {
    // The inside hears that nobody waits any more, and cleans up.
    container.input.end();
    setTimeout(() => void container.remove(), cleanUpMs).unref();
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    const status = await container.exited;
    signal.throwIfAborted();
    // 137 is SIGKILL, which none of our programs ends itself with.
    if (status === 137) throw containerGone(status);
    return status;
  } finally {
    await container.remove();
  }
}

/** The words without `--backend X` and `--backend=X`. */
export function withoutBackend(argv: readonly string[]): readonly string[] {
  return argv.filter((word, at) => !backendWords.test(word) && argv[at - 1] !== '--backend');
}

/** Existing directories that hold all paths, none inside another. */
async function directoriesOf(paths: readonly string[]): Promise<readonly string[]> {
  const found: string[] = [];
  for (const path of paths) {
    let at = resolve(path);
    while (!(await isDirectory(at))) at = dirname(at);
    found.push(at);
  }
  const inside = (path: string, other: string): boolean => path !== other && path.startsWith(other + sep);
  return [...new Set(found)].filter((path) => !found.some((other) => inside(path, other)));
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}
