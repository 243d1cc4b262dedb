import { FastioError } from '../errors.js';
import { readTar, type TarHeader, type TarWriter } from './tar.js';
import { mergedDirectories, openDeb } from './unpack.js';

/** Up to this size a file is held in memory: setting up a stream for each of thousands costs more. */
const smallFileBytes = 1 << 20;

/** One thing to put into a layer; its path has no slash at either end. Owned by root. */
export type LayerEntry = { readonly path: string; readonly mode: number } & (
  | { readonly type: 'file'; readonly content: Uint8Array | string }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'directory' }
);

export interface LayerPlan {
  /** .deb files, in the order in which their files enter. */
  readonly debs: readonly string[];
  /** Whether a path (after merging /bin and the like into /usr) is wanted. */
  readonly keep: (path: string) => boolean;
  /** Paths whose contents `extra` needs; they enter the layer as well when kept. */
  readonly capture: ReadonlySet<string>;
  /** Entries that no package has, made once all packages are in. They win over a package's of the same path. */
  readonly extra: (captured: ReadonlyMap<string, Buffer>) => Iterable<LayerEntry> | AsyncIterable<LayerEntry>;
  /** Paths that `extra` will make, so that a package's version is left out. */
  readonly replaced: ReadonlySet<string>;
  /** Modification time of what no package dates, and of the file system: seconds since 1970. */
  readonly epochSeconds: number;
}

/**
 * Adds everything of a plan to a tar stream: packages in their order, then the extra files.
 * @returns what `capture` asked for.
 * @throws FastioError LOCK_INVALID when two packages have the same file.
 */
export async function mergePackages(
  plan: LayerPlan,
  merged: TarWriter,
  signal: AbortSignal,
): Promise<Map<string, Buffer>> {
  const captured = new Map<string, Buffer>();
  const layer: Layer = { plan, merged, seen: new Set(), captured };
  for (const deb of plan.debs) {
    signal.throwIfAborted();
    await mergeDeb(deb, layer, signal);
  }
  for await (const entry of plan.extra(captured)) await addEntry(entry, layer);
  return captured;
}

interface Layer {
  readonly plan: LayerPlan;
  readonly merged: TarWriter;
  /** Paths in the layer so far. */
  readonly seen: Set<string>;
  readonly captured: Map<string, Buffer>;
}

async function mergeDeb(deb: string, layer: Layer, signal: AbortSignal): Promise<void> {
  for await (const { header, content, skip } of readTar(await openDeb(deb, signal))) {
    const path = mergePath(header.name);
    const isCaptured = layer.plan.capture.has(path);
    if (isCaptured) layer.captured.set(path, await readAll(content));
    const isRepeated = header.type === 'directory' && layer.seen.has(path);
    if (isRepeated || isMergedLink(path) || layer.plan.replaced.has(path) || !layer.plan.keep(path)) {
      skip();
      continue;
    }
    if (layer.seen.has(path)) throw twice(path, deb);
    await addParents(path, layer);
    layer.seen.add(path);
    const linkname = header.type === 'link' ? mergePath(header.linkname) : header.linkname;
    const named: TarHeader = { ...header, name: path, linkname };
    if (header.type === 'file') {
      const whole =
        layer.captured.get(path) ?? (header.size <= smallFileBytes ? await readAll(content) : content);
      await layer.merged.add(named, whole);
    } else {
      skip();
      await layer.merged.add(named);
    }
  }
}

async function addEntry(entry: LayerEntry, layer: Layer): Promise<void> {
  if (layer.seen.has(entry.path) && entry.type === 'directory') return;
  if (layer.seen.has(entry.path)) throw twice(entry.path, 'the extra files');
  await addParents(entry.path, layer);
  layer.seen.add(entry.path);
  const common = { name: entry.path, mode: entry.mode, mtime: new Date(layer.plan.epochSeconds * 1000) };
  if (entry.type === 'file') await layer.merged.add({ ...common, type: 'file' }, Buffer.from(entry.content));
  else if (entry.type === 'symlink')
    await layer.merged.add({ ...common, type: 'symlink', linkname: entry.target });
  else await layer.merged.add({ ...common, type: 'directory' });
}

/** A path merged into /usr may have parents that no package named. */
async function addParents(path: string, layer: Layer): Promise<void> {
  const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
  if (parent !== '' && !layer.seen.has(parent))
    await addEntry({ path: parent, type: 'directory', mode: 0o755 }, layer);
}

/** `./lib/x/` of a package as `usr/lib/x`. */
export function mergePath(name: string): string {
  const path = name.replace(/^(\.?\/)+/, '').replace(/\/+$/, '');
  const [first = ''] = path.split('/', 1);
  return path !== first && (mergedDirectories as readonly string[]).includes(first) ? `usr/${path}` : path;
}

function isMergedLink(path: string): boolean {
  return path === '' || path === '.' || (mergedDirectories as readonly string[]).includes(path);
}

function twice(path: string, from: string): FastioError {
  return new FastioError(
    'LOCK_INVALID',
    `/${path} comes a second time, from ${from}`,
    'Leave out one of the packages in vm/image/packages.yaml.',
  );
}

async function readAll(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
