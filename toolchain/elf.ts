import { FastioError } from '../vm/errors.js';

/** What is worth knowing of a kernel module before a kernel sees it. */
export interface ModuleFacts {
  /** The `key=value` pairs of .modinfo; a key that repeats keeps its last value. */
  readonly info: ReadonlyMap<string, string>;
  /** Symbols it takes from the kernel or from other modules, sorted. */
  readonly undefinedSymbols: readonly string[];
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  /** Index of a related section: of a symbol table, its string table. */
  readonly link: number;
}

// From the System V ABI, gABI chapters 4 and 5.
const sectionHeaderBytes = 64;
const symbolBytes = 24;
const SHT_SYMTAB = 2;
const SHN_UNDEF = 0;

/**
 * Reads a 64-bit little-endian ELF object.
 * @throws FastioError INPUT_INVALID when it is none, or is cut off.
 */
export function readModule(file: string, bytes: Buffer): ModuleFacts {
  try {
    if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
      throw new RangeError('no 64-bit little-endian ELF header');
    }
    const sections = readSections(bytes);
    return { info: readModinfo(bytes, sections), undefinedSymbols: readUndefined(bytes, sections) };
  } catch (error) {
    // Every way to read past the end or to miss a part means the same thing to the caller.
    throw new FastioError(
      'INPUT_INVALID',
      `${file}: found ${error instanceof Error ? error.message : 'an incomplete file'}, expected a kernel module`,
      'Build the module again.',
      { cause: error },
    );
  }
}

function readSections(bytes: Buffer): readonly Section[] {
  const table = Number(bytes.readBigUInt64LE(40));
  const count = bytes.readUInt16LE(60);
  const namesIndex = bytes.readUInt16LE(62);
  const at = (index: number): number => table + index * sectionHeaderBytes;
  const names = Number(bytes.readBigUInt64LE(at(namesIndex) + 24));
  return Array.from({ length: count }, (_, index) => ({
    name: cString(bytes, names + bytes.readUInt32LE(at(index))),
    type: bytes.readUInt32LE(at(index) + 4),
    offset: Number(bytes.readBigUInt64LE(at(index) + 24)),
    size: Number(bytes.readBigUInt64LE(at(index) + 32)),
    link: bytes.readUInt32LE(at(index) + 40),
  }));
}

function readModinfo(bytes: Buffer, sections: readonly Section[]): ReadonlyMap<string, string> {
  const section = sections.find(({ name }) => name === '.modinfo');
  if (section === undefined) throw new RangeError('no .modinfo section');
  const text = bytes.toString('utf8', section.offset, section.offset + section.size);
  const pairs = text.split('\0').flatMap((pair) => {
    const equals = pair.indexOf('=');
    return equals > 0 ? [[pair.slice(0, equals), pair.slice(equals + 1)] as const] : [];
  });
  return new Map(pairs);
}

function readUndefined(bytes: Buffer, sections: readonly Section[]): readonly string[] {
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  const strings = table === undefined ? undefined : sections[table.link];
  if (table === undefined || strings === undefined) throw new RangeError('no symbol table');
  const symbols: string[] = [];
  // The first symbol of every table is empty.
  for (let at = table.offset + symbolBytes; at < table.offset + table.size; at += symbolBytes) {
    if (bytes.readUInt16LE(at + 6) !== SHN_UNDEF) continue;
    const name = cString(bytes, strings.offset + bytes.readUInt32LE(at));
    if (name !== '') symbols.push(name);
  }
  return symbols.sort();
}

function cString(bytes: Buffer, start: number): string {
  const end = bytes.indexOf(0, start);
  if (end < 0 || start >= bytes.length) throw new RangeError('a string that does not end');
  return bytes.toString('utf8', start, end);
}
