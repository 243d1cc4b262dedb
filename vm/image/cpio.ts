/** One entry of an initramfs, owned by root, dated 1970. */
export type CpioEntry = { readonly path: string; readonly mode: number } & (
  | { readonly type: 'file'; readonly content: Uint8Array }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'directory' }
  | { readonly type: 'character'; readonly major: number; readonly minor: number }
);

const typeBits = { file: 0o100000, symlink: 0o120000, directory: 0o040000, character: 0o020000 } as const;

/** A "newc" cpio archive as the kernel unpacks it. Same entries, same bytes. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map((entry, index) => record(entry, index + 1));
  return Buffer.concat([
    ...parts,
    record({ type: 'file', path: 'TRAILER!!!', mode: 0, content: Buffer.alloc(0) }, 0),
  ]);
}

function record(entry: CpioEntry, inode: number): Buffer {
  const content = contentOf(entry);
  const name = Buffer.from(`${entry.path}\0`);
  const isTrailer = inode === 0;
  const fields = [
    inode,
    isTrailer ? 0 : typeBits[entry.type] | entry.mode,
    ...[0, 0], // owner and group
    1, // links
    0, // modification time
    content.length,
    ...[0, 0], // device the entry is on
    ...(entry.type === 'character' ? [entry.major, entry.minor] : [0, 0]),
    name.length,
    0, // checksum, unused in this format
  ];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([pad(Buffer.concat([header, name])), pad(content)]);
}

function contentOf(entry: CpioEntry): Buffer {
  if (entry.type === 'file') return Buffer.from(entry.content);
  return entry.type === 'symlink' ? Buffer.from(entry.target) : Buffer.alloc(0);
}

function pad(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc(-data.length & 3)]);
}
