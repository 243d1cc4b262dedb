import { expect, it } from '@jest/globals';
import { readModule } from './elf.js';

/** The smallest object with a .modinfo, a symbol table and its strings. */
function moduleBytes(modinfo: string, symbols: readonly string[]): Buffer {
  const strings = Buffer.from(`\0${symbols.join('\0')}\0`);
  const table = Buffer.alloc(24 * (symbols.length + 1));
  symbols.forEach((symbol, index) =>
    table.writeUInt32LE(strings.indexOf(`\0${symbol}\0`) + 1, 24 * (index + 1)),
  );
  const names = Buffer.from('\0.modinfo\0.symtab\0.strtab\0');
  const parts = [Buffer.from(modinfo), table, strings, names];
  const offsets = parts.map((_, i) => 64 + parts.slice(0, i).reduce((sum, part) => sum + part.length, 0));
  const headers = Buffer.alloc(64 * 5);
  const section = (index: number, name: string, type: number, part: number, link = 0): void => {
    headers.writeUInt32LE(names.indexOf(`\0${name}\0`) + 1, 64 * index);
    headers.writeUInt32LE(type, 64 * index + 4);
    headers.writeBigUInt64LE(BigInt(offsets[part] ?? 0), 64 * index + 24);
    headers.writeBigUInt64LE(BigInt(parts[part]?.length ?? 0), 64 * index + 32);
    headers.writeUInt32LE(link, 64 * index + 40);
  };
  section(1, '.modinfo', 1, 0);
  section(2, '.symtab', 2, 1, 3);
  section(3, '.strtab', 3, 2);
  section(4, '.strtab', 3, 3);
  const head = Buffer.alloc(64);
  head.writeUInt32BE(0x7f454c46);
  head.set([2, 1], 4);
  head.writeBigUInt64LE(BigInt(64 + parts.reduce((sum, part) => sum + part.length, 0)), 40);
  head.writeUInt16LE(5, 60);
  head.writeUInt16LE(4, 62);
  return Buffer.concat([head, ...parts, headers]);
}

it('reads what a module says of itself and what it takes from the kernel', () => {
  const bytes = moduleBytes('license=GPL\0vermagic=6.12.1 SMP\0', ['vfs_poll', 'fget']);

  const facts = readModule('a.ko', bytes);

  expect(facts.info.get('vermagic')).toBe('6.12.1 SMP');
  expect(facts.undefinedSymbols).toEqual(['fget', 'vfs_poll']);
});

it.each([
  ['something else', Buffer.from('#!/bin/sh\n'.repeat(20))],
  ['nothing', Buffer.alloc(0)],
  ['half a module', moduleBytes('license=GPL\0', ['fget']).subarray(0, 200)],
])('says so when given %s', (_, bytes) => {
  expect(() => readModule('a.ko', bytes)).toThrow(/a\.ko: found .*, expected a kernel module/);
});
