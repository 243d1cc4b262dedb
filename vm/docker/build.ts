import type Docker from 'dockerode';
import { FastioError } from '../errors.js';
import type { Work } from '../image/work.js';
import { orAbort } from '../wait.js';
import { buildContext } from './context.js';
import { explainEngine } from './engine.js';

/** What the image is built on, unless FASTIO_DOCKER_BASE names something else. */
const defaultBase = 'debian:trixie-slim';
const repository = 'fastio';

/** One message of the engine's build. */
interface BuildMessage {
  readonly stream?: string;
  readonly status?: string;
  readonly error?: string;
}

/**
 * The image that holds this program, built when the engine has none of these very contents.
 * @returns its tag.
 * @throws FastioError NETWORK when the base cannot be had, ENGINE_REFUSED when a step of the build fails.
 */
export async function runnerImage(docker: Docker, { report, signal }: Work): Promise<string> {
  const base = baseName();
  const context = await buildContext();
  const tag = `${repository}:${context.id}-${base.replace(/[^A-Za-z0-9_.-]+/g, '-')}`;
  if (await hasImage(docker, tag)) return tag;
  report({ kind: 'stage', name: 'container image', detail: `${tag} on ${base}` });
  const lines: string[] = [];
  // A step that fails is a message like others to dockerode, and then the stream ends well.
  let failed: string | undefined;
  try {
    const messages = await orAbort(
      docker.buildImage(context.archive() as unknown as NodeJS.ReadableStream, {
        t: tag,
        buildargs: { BASE: base },
        forcerm: true,
        abortSignal: signal,
      }),
      signal,
    );
    await new Promise<void>((resolve, reject) => {
      docker.modem.followProgress(
        messages,
        (error: Error | null) => {
          if (error !== null) reject(error);
          else if (failed !== undefined) reject(new Error(failed));
          else resolve();
        },
        (message: BuildMessage) => {
          failed ??= message.error;
          const text = (message.stream ?? message.error ?? message.status ?? '').trimEnd();
          if (text === '') return;
          lines.push(text);
          report({ kind: 'line', from: 'build', text });
        },
      );
    });
  } catch (error) {
    signal.throwIfAborted();
    throw explainBuild(error, base, lines.slice(-20));
  }
  return tag;
}

function baseName(): string {
  const own = process.env['FASTIO_DOCKER_BASE'];
  return own !== undefined && own !== '' ? own : defaultBase;
}

async function hasImage(docker: Docker, tag: string): Promise<boolean> {
  try {
    await docker.getImage(tag).inspect();
    return true;
  } catch (error) {
    if ((error as { readonly statusCode?: number }).statusCode === 404) return false;
    throw explainEngine(error);
  }
}

/** A base that cannot be pulled, a step that failed, or what the engine says otherwise. */
function explainBuild(error: unknown, base: string, detail: readonly string[]): FastioError {
  const text = error instanceof Error ? error.message : String(error);
  if (/pull access denied|manifest|no such host|registry|dial tcp|i\/o timeout|lookup /i.test(text)) {
    return new FastioError(
      'NETWORK',
      `the base image ${base} cannot be had: ${text}`,
      'Set FASTIO_DOCKER_BASE to an image of Debian trixie that the engine has or can pull.',
      { cause: error, detail },
    );
  }
  if (text.includes('returned a non-zero code')) {
    return new FastioError(
      'ENGINE_REFUSED',
      `building the container image: ${text}`,
      'Read its last lines above; containers need a Debian mirror.',
      { cause: error, detail },
    );
  }
  return explainEngine(error);
}
