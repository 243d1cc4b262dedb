import type { NativeRing, NativeSegment } from './native.js';

/** Blocks are added this many at a time. */
const blocksPerSegment = 256;

/**
 * Memory for operations that carry bytes. Workers only ever touch this memory, never a program's own buffers: those
 * can be transferred, detached, shrunk or collected while an operation is in flight.
 */
export interface Blocks {
  readonly blockBytes: number;
  /** A free block, or -1: then `whenFree` calls back. */
  take(): number;
  give(block: number): void;
  /** Calls back, in the order asked, when a block was given back. */
  whenFree(callback: () => void): void;
  bytes(block: number): Uint8Array;
  addressLow(block: number): number;
  addressHigh(block: number): number;
}

/** @param limit Most blocks there may be. */
export function makeBlocks(native: NativeRing, blockBytes: number, limit: number): Blocks {
  const views: Uint8Array[] = [];
  const low: number[] = [];
  const high: number[] = [];
  const free: number[] = [];
  const waiting: (() => void)[] = [];

  const grow = (): void => {
    const count = Math.min(blocksPerSegment, limit - views.length);
    const segment = count > 0 ? native.grow(count) : undefined;
    if (segment === undefined) return;
    for (let i = 0; i < count; i += 1) {
      const address = segment.address + i * blockBytes;
      free.push(views.length);
      views.push(new Uint8Array(segment.buffer, i * blockBytes, blockBytes));
      low.push(address >>> 0);
      high.push(Math.floor(address / 2 ** 32));
    }
  };

  return {
    blockBytes,
    take() {
      if (free.length === 0) grow();
      return free.pop() ?? -1;
    },
    give(block) {
      free.push(block);
      waiting.shift()?.();
    },
    whenFree(callback) {
      waiting.push(callback);
    },
    bytes: (block) => views[block] ?? new Uint8Array(0),
    addressLow: (block) => low[block] ?? 0,
    addressHigh: (block) => high[block] ?? 0,
  };
}

/** Views of the buffers provided to the queues: of queue q with id i it is number q × provided + i. */
export function viewsOf(segment: NativeSegment, blockBytes: number): readonly Buffer[] {
  const count = segment.buffer.byteLength / blockBytes;
  return Array.from({ length: count }, (_, i) => Buffer.from(segment.buffer, i * blockBytes, blockBytes));
}
