import { busyNs, type ClockWindow, type VcpuCounts } from './log.js';
import { profileLines, type Symbols } from './lines.js';

/** One function of a profile. */
export interface CodeRow {
  /** As the kernel calls it, or `user code`. */
  readonly name: string;
  /** Executed in it, line transfers included. */
  readonly ns: number;
  readonly transfers: number;
}

/** Where some vCPUs spent a window. */
export interface CodeProfile {
  readonly vcpus: readonly number[];
  /** ns they executed, and the part that line transfers took. */
  readonly executedNs: number;
  readonly lineNs: number;
  readonly transfers: number;
  /** ns they polled in YIELD and WFE. */
  readonly spunNs: number;
  /** Most ns first; empty unless the window was measured with `profile`. */
  readonly functions: readonly CodeRow[];
}

/** vCPUs that do the same thing, such as a server's. */
export interface VcpuGroup {
  readonly title: string;
  readonly vcpus: readonly number[];
}

export interface ProfileOptions {
  readonly groups: readonly VcpuGroup[];
  /** What the figures are divided by, more than 0: the requests served in the window. */
  readonly requests: number;
  /** Rows of each table. */
  readonly rows?: number;
}

const defaultRows = 30;
const offsetInFunction = /\+0x[0-9a-f]+$/;

/** Sums a window's code by function, for the vCPUs named. */
export function profileCode(window: ClockWindow, symbols: Symbols, vcpus: readonly number[]): CodeProfile {
  const sum = (of: (vcpu: VcpuCounts) => number): number =>
    vcpus.reduce(
      (total, index) => total + (window.vcpus[index] === undefined ? 0 : of(window.vcpus[index])),
      0,
    );
  const lineNs = sum((vcpu) => vcpu.lineNs);
  const transfers = sum((vcpu) => vcpu.lineTransfers);
  const nsPerTransfer = transfers === 0 ? 0 : lineNs / transfers;
  const functions = new Map<string, CodeRow>();
  const wanted = new Set(vcpus);
  for (const { vcpu, pc, ns, transfers: moved } of window.profile ?? []) {
    if (!wanted.has(vcpu)) continue;
    const name = symbols.nameOf(BigInt(pc))?.replace(offsetInFunction, '') ?? 'user code';
    const before = functions.get(name);
    functions.set(name, {
      name,
      ns: (before?.ns ?? 0) + ns + moved * nsPerTransfer,
      transfers: (before?.transfers ?? 0) + moved,
    });
  }
  return {
    vcpus,
    executedNs: sum((vcpu) => vcpu.executedNs),
    lineNs,
    transfers,
    spunNs: sum((vcpu) => vcpu.spunNs),
    functions: [...functions.values()].sort((a, b) => b.ns - a.ns || (a.name < b.name ? -1 : 1)),
  };
}

/**
 * A window's profile as text: for each group of vCPUs where its time went, function by function, and then which memory
 * moved between CPUs, and for which code. Figures are per request.
 */
export function describeProfile(window: ClockWindow, symbols: Symbols, options: ProfileOptions): string {
  const { groups, requests, rows = defaultRows } = options;
  const each = (value: number, digits: number): string => (value / requests).toFixed(digits);
  const parts = groups.map(({ title, vcpus }) => {
    const code = profileCode(window, symbols, vcpus);
    const span = window.endNs - window.startNs;
    const busy = vcpus.reduce((total, index) => {
      const vcpu = window.vcpus[index];
      return total + (vcpu === undefined ? 0 : busyNs(vcpu) / span);
    }, 0);
    return [
      `${title}: vCPU ${vcpus.join(', ')}; ${busy.toFixed(2)} CPUs used, ${each(code.spunNs, 0)} ns per request polled`,
      ...table(
        ['ns/request', 'share', 'lines/request', 'function'],
        [
          [each(code.executedNs, 0), '100 %', each(code.transfers, 2), '(all)'],
          ...code.functions
            .slice(0, rows)
            .map(({ name, ns, transfers }) => [
              each(ns, 0),
              percent(ns, code.executedNs),
              each(transfers, 2),
              name,
            ]),
        ],
      ),
    ];
  });
  const { transfers, lines, functions } = profileLines(window, symbols);
  const moved = (found: typeof lines): readonly (readonly string[])[] =>
    found
      .slice(0, rows)
      .map((row) => [each(row.transfers, 3), each(row.reads, 3), each(row.writes, 3), row.address, row.name]);
  const heads = ['lines/request', 'by loads', 'by stores'];
  return [
    ...parts,
    [
      `lines of 64 bytes that moved between CPUs: ${each(transfers, 1)} per request, all vCPUs`,
      ...table([...heads, 'address', 'memory'], moved(lines)),
    ],
    ['the code they moved for', ...table([...heads, 'address', 'function'], moved(functions))],
  ]
    .map((part) => `${part.join('\n')}\n`)
    .join('\n');
}

function percent(part: number, whole: number): string {
  return `${(whole === 0 ? 0 : (100 * part) / whole).toFixed(1)} %`;
}

/** Numbers to the right, the last column to the left. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all.map((row) =>
    row
      .map((cell, column) => (column === head.length - 1 ? cell : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .replace(/^/, '  '),
  );
}
