import type { ClockWindow } from './log.js';

/** Names for addresses of a kernel and its modules. */
export interface Symbols {
  /** `name+0x1c`, or undefined for an address that nothing has a name for. */
  nameOf(address: bigint): string | undefined;
}

/** One line or one instruction of a profile. */
export interface ProfileRow {
  /** The instruction's function, or the data's symbol; else which kind of memory it is. */
  readonly name: string;
  readonly address: string;
  readonly transfers: number;
  readonly reads: number;
  readonly writes: number;
  /** Of all transfers of the window. */
  readonly share: number;
}

/** Where a window's line transfers went. */
export interface LineProfile {
  readonly transfers: number;
  /** The memory that moved, by line; most transfers first. */
  readonly lines: readonly ProfileRow[];
  /** The code that made it move, by function; most transfers first. */
  readonly functions: readonly ProfileRow[];
  /** Transfers by vCPU. */
  readonly byVcpu: readonly number[];
}

/** An address further than this beyond a symbol belongs to nothing that we know. */
const symbolReach = 1n << 20n;
/** Borders of arm64's address space with 48 bits; see the kernel's Documentation/arch/arm64/memory.rst. */
const userEnd = 1n << 48n;
const linearStart = 0xffff_0000_0000_0000n;
const linearEnd = 0xffff_8000_0000_0000n;
const pagesStart = 0xffff_fdff_c000_0000n;

/** Reads /proc/kallsyms, as root sees it. */
export function parseKallsyms(text: string): Symbols {
  const found: { readonly address: bigint; readonly name: string }[] = [];
  for (const line of text.split('\n')) {
    const match = /^([0-9a-f]{16}) [A-Za-z] (\S+)(?:\t(\[\S+\]))?/.exec(line);
    const [, address, name, module] = match ?? [];
    if (address === undefined || name === undefined || name.startsWith('$')) continue;
    const value = BigInt(`0x${address}`);
    if (value !== 0n) found.push({ address: value, name: module === undefined ? name : `${name} ${module}` });
  }
  found.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  return {
    nameOf(address) {
      let low = 0;
      let high = found.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((found[middle]?.address ?? 0n) <= address) low = middle + 1;
        else high = middle;
      }
      const symbol = found[low - 1];
      if (symbol === undefined || address - symbol.address >= symbolReach) return undefined;
      const offset = address - symbol.address;
      return offset === 0n ? symbol.name : `${symbol.name}+0x${offset.toString(16)}`;
    },
  };
}

/** Gives a window's transfers names. Only the lines and instructions the plugin lists have any. */
export function profileLines(window: ClockWindow, symbols: Symbols): LineProfile {
  const transfers = window.vcpus.reduce((sum, vcpu) => sum + vcpu.lineTransfers, 0);
  const row = (name: string, address: string, reads: number, writes: number): ProfileRow => ({
    ...{ name, address, transfers: reads + writes, reads, writes },
    share: transfers === 0 ? 0 : (reads + writes) / transfers,
  });
  const functions = new Map<string, ProfileRow>();
  for (const { pc, reads, writes } of window.sites) {
    const name = symbols.nameOf(BigInt(pc))?.replace(/\+0x[0-9a-f]+$/, '') ?? kindOf(BigInt(pc));
    const sum = functions.get(name);
    functions.set(
      name,
      row(name, sum?.address ?? pc, (sum?.reads ?? 0) + reads, (sum?.writes ?? 0) + writes),
    );
  }
  return {
    transfers,
    lines: window.lines.map(({ physical, seenAt, reads, writes }) =>
      row(symbols.nameOf(BigInt(seenAt)) ?? kindOf(BigInt(seenAt)), physical, reads, writes),
    ),
    functions: [...functions.values()].sort((a, b) => b.transfers - a.transfers),
    byVcpu: window.vcpus.map((vcpu) => vcpu.lineTransfers),
  };
}

function kindOf(address: bigint): string {
  if (address < userEnd) return 'user memory';
  if (address >= linearStart && address < linearEnd) return 'allocated kernel memory';
  return address >= pagesStart ? 'page descriptors' : 'mapped kernel memory';
}
