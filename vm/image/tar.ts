import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, type Header, pack } from 'tar-stream';

/** What a tar stream says of one file, apart from its bytes. */
export type TarHeader = Partial<Omit<Header, 'name'>> & Pick<Header, 'name'>;

export interface TarEntry {
  readonly header: Header;
  /** Must be read to its end, or `skip` called, before the next entry comes. */
  readonly content: AsyncIterable<Buffer>;
  readonly skip: () => void;
}

/** The entries of a tar stream, one after the other. */
export async function* readTar(source: Readable): AsyncGenerator<TarEntry> {
  const tar = extract();
  const reading = pipeline(source, tar as unknown as NodeJS.WritableStream);
  // A broken source ends the loop below with its error; this only keeps it from counting as unhandled.
  reading.catch(() => undefined);
  for await (const entry of tar) {
    yield {
      header: entry.header,
      content: entry as AsyncIterable<Buffer>,
      skip: () => void entry.resume(),
    };
  }
  await reading;
}

export interface TarWriter {
  /** The tar stream itself. */
  readonly stream: Readable;
  /** Adds an entry; resolves once its bytes are on their way. A stream's length must be the header's size. */
  readonly add: (header: TarHeader, content?: Buffer | AsyncIterable<Buffer>) => Promise<void>;
  readonly end: () => void;
}

export function writeTar(): TarWriter {
  const tar = pack();
  const add: TarWriter['add'] = async (header, content = Buffer.alloc(0)) => {
    if (content instanceof Buffer) {
      await new Promise<void>((resolve, reject) => {
        tar.entry(header, content, (error) => {
          if (error) reject(error);
          else resolve();
        });
      });
      return;
    }
    const done = new Promise<void>((resolve, reject) => {
      const sink = tar.entry(header, (error) => {
        if (error) reject(error);
        else resolve();
      });
      pipeline(Readable.from(content), sink as unknown as NodeJS.WritableStream).catch(reject);
    });
    await done;
  };
  return {
    stream: Readable.from(tar),
    add,
    end: () => {
      tar.finalize();
    },
  };
}
