import { readFileSync, readlinkSync } from 'node:fs';
import { errnoOf } from '../errors.js';

/** Names the process that made a temporary file, well enough to recognise a reused pid. */
export interface Owner {
  readonly pid: number;
  /** Clock ticks between the host's boot and the process's start; 0 where the host does not tell. */
  readonly startTicks: string;
  /** Inode of the pid namespace: pids of two containers sharing one cache mean different processes. */
  readonly namespace: string;
}

export const tokenPattern = /(\d+)-(\d+)-(\d+)/;

/** This process, or another live one of the same namespace. */
export function ownerOf(pid: number = process.pid): Owner {
  return { pid, startTicks: statOf(pid).startTicks ?? '0', namespace: ownNamespace() };
}

export function ownerToken(owner: Owner = ownerOf()): string {
  return `${owner.pid}-${owner.startTicks}-${owner.namespace}`;
}

/** The owner a token names, or undefined when the text holds none. */
export function parseToken(text: string): Owner | undefined {
  const [, pid, startTicks, namespace] = tokenPattern.exec(text) ?? [];
  if (pid === undefined || startTicks === undefined || namespace === undefined) return undefined;
  return { pid: Number(pid), startTicks, namespace };
}

/** Whether the owner still runs; `unknown` when its pid belongs to a namespace we cannot see. */
export function ownerState(owner: Owner): 'alive' | 'dead' | 'unknown' {
  if (owner.namespace !== ownNamespace()) return 'unknown';
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    // EPERM is a live process of another user.
    if (errnoOf(error) === 'ESRCH') return 'dead';
  }
  const { state, startTicks } = statOf(owner.pid);
  // A zombie holds nothing; where nobody reaps orphans, as in many containers, it stays for ever.
  if (state === 'Z' || state === 'X') return 'dead';
  return startTicks === undefined || owner.startTicks === '0' || startTicks === owner.startTicks
    ? 'alive'
    : 'dead';
}

interface Stat {
  readonly state?: string | undefined;
  readonly startTicks?: string | undefined;
}

function statOf(pid: number): Stat {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name, in parentheses, may hold spaces; the start time is the 20th field after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0], startTicks: fields[19] };
  } catch {
    return {};
  }
}

function ownNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';
  } catch {
    return '0';
  }
}
