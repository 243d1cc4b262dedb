/** Offsets in an ELF file of 64 bits, little-endian. */
const elf = {
  sectionTable: 0x28,
  sectionCount: 0x3c,
  section: { size: 64, type: 4, offset: 24, length: 32, link: 40 },
  symbol: { size: 24, name: 0, length: 16 },
} as const;
/** Section type of the symbols that the dynamic linker sees. */
const dynamicSymbols = 11;

/**
 * A copy of a program that says that one of its exported variables has another size: what a build of the same version
 * with other options would say.
 */
export function withSymbolSize(
  program: Buffer,
  name: string,
  size: number,
): { readonly image: Buffer; readonly before: number } {
  const image = Buffer.from(program);
  const number = (at: number): number => Number(image.readBigUInt64LE(at));
  const sectionAt = (index: number): number => number(elf.sectionTable) + index * elf.section.size;
  for (let index = 0; index < image.readUInt16LE(elf.sectionCount); index += 1) {
    const section = sectionAt(index);
    if (image.readUInt32LE(section + elf.section.type) !== dynamicSymbols) continue;
    const names = number(sectionAt(image.readUInt32LE(section + elf.section.link)) + elf.section.offset);
    const first = number(section + elf.section.offset);
    const end = first + number(section + elf.section.length);
    for (let symbol = first; symbol < end; symbol += elf.symbol.size) {
      const at = names + image.readUInt32LE(symbol + elf.symbol.name);
      if (image.toString('latin1', at, at + name.length + 1) !== `${name}\0`) continue;
      const before = number(symbol + elf.symbol.length);
      image.writeBigUInt64LE(BigInt(size), symbol + elf.symbol.length);
      return { image, before };
    }
  }
  throw new Error(`found no exported symbol ${name}`);
}
