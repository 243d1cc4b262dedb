import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { FastioError } from '../../vm/errors.js';
import { Manifest, manifestName } from './manifest.js';

/** A bundle is unpacked in memory by nobody: each file is hashed as it passes. The manifest alone is kept. */
const manifestMax = 16 * 1024 * 1024;

/**
 * Checks every file of a bundle against its manifest.
 * @throws FastioError INPUT_INVALID that names the file which is damaged, missing or not listed.
 */
export async function verifyBundle(file: string): Promise<Manifest> {
  const found = new Map<string, { readonly sha256: string; readonly bytes: number }>();
  const kept: Buffer[] = [];
  const archive = extract();
  archive.on('entry', (header, stream, next) => {
    const path = header.name.replace(/^fastio-bundle\//, '');
    const hash = createHash('sha256');
    let bytes = 0;
    stream.on('data', (data) => {
      const chunk = data as Buffer;
      bytes += chunk.length;
      hash.update(chunk);
      if (path === manifestName && bytes <= manifestMax) kept.push(chunk);
    });
    // A torn archive is told by the pipeline's own rejection.
    stream.on('error', () => undefined);
    stream.on('end', () => {
      found.set(path, { sha256: hash.digest('hex'), bytes });
      next();
    });
  });
  try {
    await pipeline(createReadStream(file), createGunzip(), archive);
  } catch (error) {
    throw damaged(
      `${file}: ${error instanceof Error ? error.message : String(error)}, expected a bundle`,
      error,
    );
  }
  const manifest = readManifest(file, Buffer.concat(kept).toString());
  found.delete(manifestName);
  for (const { path, bytes, sha256 } of manifest.files) {
    const is = found.get(path);
    if (is === undefined) throw damaged(`${file}: ${path}: found nothing, expected ${bytes} bytes`);
    if (is.sha256 !== sha256)
      throw damaged(`${file}: ${path}: found sha256 ${is.sha256}, expected ${sha256}`);
    found.delete(path);
  }
  const [stranger] = found.keys();
  if (stranger !== undefined)
    throw damaged(`${file}: ${stranger}: found a file that the manifest does not list`);
  return manifest;
}

function readManifest(file: string, text: string): Manifest {
  if (text === '') throw damaged(`${file}: found no ${manifestName}, expected a bundle`);
  const parsed = Manifest.safeParse(parseJson(file, text));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw damaged(`${file}: ${manifestName}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`);
}

function parseJson(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw damaged(`${file}: ${manifestName}: found no JSON`, error);
  }
}

function damaged(message: string, cause?: unknown): FastioError {
  return new FastioError('INPUT_INVALID', message, 'Fetch the bundle again.', { cause });
}
