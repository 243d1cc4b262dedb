import { type FileHandle, open } from 'node:fs/promises';
import { FastioError } from '../errors.js';

const arMagic = '!<arch>\n';
const memberHeaderBytes = 60;
/** debian-binary, control, data, and what signing tools may add. */
const maxMembers = 16;

/** How a member of a .deb is compressed, by the end of its name. */
export type Compression = 'xz' | 'zst' | 'gz' | 'none';

/** Where in a .deb file the files to install are. */
export interface DebData {
  readonly compression: Compression;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Finds data.tar.* in a .deb, which is an `ar` archive. @throws FastioError PACKAGE_CORRUPT. */
export async function findDebData(path: string): Promise<DebData> {
  const fail = (found: string, expected: string): FastioError =>
    new FastioError(
      'PACKAGE_CORRUPT',
      `${path}: found ${found}, expected ${expected}`,
      'Remove the file; it will be fetched anew.',
    );
  const file = await open(path, 'r');
  try {
    const magic = await readText(file, 0, arMagic.length);
    if (magic !== arMagic) throw fail(JSON.stringify(magic), 'an ar archive');
    let at = arMagic.length;
    for (let member = 0; member < maxMembers; member += 1) {
      const header = await readText(file, at, memberHeaderBytes);
      if (header.length < memberHeaderBytes) break;
      const name = header.slice(0, 16).trimEnd().replace(/\/$/, '');
      const size = header.slice(48, 58).trimEnd();
      if (header.slice(58) !== '`\n' || !/^\d+$/.test(size))
        throw fail('a broken member header', 'ar format');
      const offset = at + memberHeaderBytes;
      const ending = /^data\.tar(?:\.([a-z0-9]+))?$/.exec(name);
      if (ending !== null) {
        const compression = ending[1] ?? 'none';
        if (isCompression(compression)) return { compression, offset, sizeBytes: Number(size) };
        throw fail(name, 'data.tar, .gz, .xz or .zst');
      }
      at = offset + Number(size) + (Number(size) % 2);
    }
    throw fail('no data.tar member', 'one');
  } finally {
    await file.close();
  }
}

function isCompression(text: string): text is Compression {
  return ['xz', 'zst', 'gz', 'none'].includes(text);
}

async function readText(file: FileHandle, position: number, length: number): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead).toString('latin1');
}
