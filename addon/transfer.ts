import type { Completion, Core, Operation } from './core.js';
import { MSG_WAITALL, errnos, opcodes, sqeFlags } from './abi.js';

/** What carries bytes from or to a block. */
export interface Transfer {
  readonly opcode: typeof opcodes.send | typeof opcodes.write | typeof opcodes.read;
  readonly fd: number;
  /** Where in the file, or null for its own position (and for sockets). */
  readonly position: bigint | null;
}

/** Called once: all bytes moved (or the end was met), or -errno and how many had moved. */
export type TransferDone = (result: number, moved: number) => void;

/** Lets a transfer that has no operation in flight yet, or the next one, be stopped. */
export interface Stoppable {
  operation: Operation | undefined;
  stopped: boolean;
}

const offsetCurrent = (1n << 64n) - 1n;
const low32 = (1n << 32n) - 1n;

export function slotFlag(core: Core, fd: number): number {
  return core.owned[fd] === 1 ? sqeFlags.slot : 0;
}

/** Receives once, into a provided buffer. */
export function receive(
  core: Core,
  fd: number,
  length: number,
  multishot: boolean,
  done: Completion,
): Operation {
  return core.start(
    {
      opcode: opcodes.recv,
      flags: slotFlag(core, fd) | sqeFlags.bufSelect | (multishot ? sqeFlags.multishot : 0),
      fd,
      addressLow: 0,
      addressHigh: 0,
      length,
      opFlags: 0,
      offsetLow: 0,
      offsetHigh: 0,
    },
    done,
  );
}

/** Moves bytes through blocks, one after the other, until all have moved. */
export function transfer(
  core: Core,
  what: Transfer,
  bytes: Uint8Array,
  self: Stoppable,
  done: TransferDone,
): void {
  let moved = 0;
  const length = bytes.byteLength;

  const next = (): void => {
    const block = core.blocks.take();
    if (block < 0) {
      core.blocks.whenFree(next);
      return;
    }
    const want = Math.min(length - moved, core.blocks.blockBytes);
    // Detached or shrunk while it waited: what is left of it cannot be sent.
    if (bytes.byteLength !== length || self.stopped || core.isClosed()) {
      core.blocks.give(block);
      process.nextTick(done, self.stopped ? -errnos.ECANCELED : -errnos.EFAULT, moved);
      return;
    }
    if (what.opcode !== opcodes.read) core.blocks.bytes(block).set(part(bytes, moved, want));
    self.operation = start(core, what, block, want, moved, (result) => {
      self.operation = undefined;
      if (result > 0 && what.opcode === opcodes.read && !core.isClosed()) {
        if (bytes.byteLength !== length) {
          core.blocks.give(block);
          done(-errnos.EFAULT, moved);
          return;
        }
        bytes.set(core.blocks.bytes(block).subarray(0, result), moved);
      }
      core.blocks.give(block);
      if (result > 0) moved += result;
      if (result < 0) done(result, moved);
      else if (moved === length || result === 0 || !goesOn(what, result, want)) done(moved, moved);
      else next();
    });
  };
  next();
}

/** Reads end with the first that finds less; from a stream (no position) after one, since the next may wait. */
function goesOn({ opcode, position }: Transfer, result: number, want: number): boolean {
  return opcode !== opcodes.read || (position !== null && result === want);
}

function part(bytes: Uint8Array, from: number, count: number): Uint8Array {
  return from === 0 && count === bytes.byteLength ? bytes : bytes.subarray(from, from + count);
}

function start(
  core: Core,
  { opcode, fd, position }: Transfer,
  block: number,
  length: number,
  moved: number,
  done: Completion,
): Operation {
  const isSend = opcode === opcodes.send;
  const offset = isSend ? 0n : position === null ? offsetCurrent : position + BigInt(moved);
  return core.start(
    {
      opcode,
      flags: slotFlag(core, fd),
      fd,
      addressLow: core.blocks.addressLow(block),
      addressHigh: core.blocks.addressHigh(block),
      length,
      opFlags: isSend ? MSG_WAITALL : 0,
      offsetLow: isSend ? 0 : Number(offset & low32),
      offsetHigh: isSend ? 0 : Number(offset >> 32n),
    },
    done,
  );
}
