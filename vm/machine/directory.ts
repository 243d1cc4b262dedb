import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, FastioError } from '../errors.js';
import { ownerState, ownerToken, parseToken } from '../image/owner.js';
import { runDir } from '../paths.js';
import type { VmInfo, VmSpec } from '../vm.js';

/** What a guest's directory says of it, in `state.json`; rewritten whole at each change. */
export interface GuestState {
  readonly name: string;
  readonly spec: VmSpec;
  readonly state: 'starting' | 'running' | 'dead';
  readonly info?: VmInfo;
  readonly died?: string;
  readonly detached: boolean;
  /** Owner tokens (image/owner.ts), which recognise a pid that was used again. */
  readonly keeper: string;
  readonly qemu?: string;
  readonly startedAtMs: number;
}

export const socketName = 'sock';
const stateName = 'state.json';
/** A Unix socket's path, with its final NUL, is at most 108 bytes on Linux and 104 on macOS. */
const socketPathMax = 103;

/** @throws FastioError USAGE unless the name is 1 to 32 of [a-z0-9-] and begins with a letter or digit. */
export function checkName(name: string): void {
  if (/^[a-z0-9][a-z0-9-]{0,31}$/.test(name)) return;
  throw new FastioError(
    'USAGE',
    `'${name}' cannot name a guest: expected 1 to 32 of a-z, 0-9 and -, a letter or digit first`,
    'Choose another --name.',
  );
}

export function guestDirectory(name: string): string {
  checkName(name);
  return join(runDir(), name);
}

/**
 * Makes a guest's directory, complete from the first moment it can be seen, or not at all.
 * @throws FastioError GUEST_EXISTS when a live guest has the name.
 */
export async function claimDirectory(state: GuestState): Promise<string> {
  const directory = guestDirectory(state.name);
  if (join(directory, socketName).length > socketPathMax) {
    throw new FastioError(
      'HOST_UNSUPPORTED',
      `${directory} is too long a path for a guest's socket: at most ${socketPathMax} bytes with its name`,
      'Set FASTIO_RUN_DIR to a directory with a shorter path.',
    );
  }
  claims += 1;
  const fresh = join(runDir(), `.new-${ownerToken()}-${claims}-${state.name}`);
  await mkdir(fresh, { mode: 0o700 });
  await writeFile(join(fresh, stateName), JSON.stringify(state));
  try {
    await rename(fresh, directory);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
    throw new FastioError(
      'GUEST_EXISTS',
      `a guest named ${state.name} is already there`,
      `Use it, end it with \`fastio down --name ${state.name}\`, or choose another --name.`,
    );
  }
  return directory;
}

/** Claims of this process so far, so that two at a time do not share a directory. */
let claims = 0;

export async function writeState(directory: string, state: GuestState): Promise<void> {
  const temp = join(directory, `${stateName}.new`);
  await writeFile(temp, JSON.stringify(state));
  await rename(temp, join(directory, stateName));
}

/** The state in a guest's directory, or undefined when there is none that makes sense. */
export async function readState(directory: string): Promise<GuestState | undefined> {
  try {
    return JSON.parse(await readFile(join(directory, stateName), 'utf8')) as GuestState;
  } catch (error) {
    if (error instanceof SyntaxError || ['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? ''))
      return undefined;
    throw error;
  }
}

/** States of all guests whose keeper lives, by name. */
export async function liveGuests(): Promise<readonly GuestState[]> {
  const names = (await readdir(runDir())).filter((name) => !name.startsWith('.')).sort();
  const states = await Promise.all(names.map((name) => readState(join(runDir(), name))));
  return states.filter((state) => state !== undefined).filter(({ keeper }) => tokenState(keeper) === 'alive');
}

function tokenState(token: string): 'alive' | 'dead' | 'unknown' {
  const owner = parseToken(token);
  return owner === undefined ? 'unknown' : ownerState(owner);
}

/** Ends QEMUs whose keeper is gone and removes what killed runs left; says what, for people. */
export async function sweepDirectories(): Promise<readonly string[]> {
  const swept: string[] = [];
  for (const name of await readdir(runDir())) {
    const path = join(runDir(), name);
    if (name.startsWith('.new-') || name.startsWith('.old-')) {
      if (tokenState(name) === 'dead') await rm(path, { recursive: true, force: true });
      continue;
    }
    const state = await readState(path);
    if (state === undefined || tokenState(state.keeper) !== 'dead') continue;
    const qemu = state.qemu === undefined ? undefined : parseToken(state.qemu);
    if (qemu !== undefined && ownerState(qemu) === 'alive') process.kill(qemu.pid, 'SIGKILL');
    if (await removeStale(path, name, state)) swept.push(`guest ${name}, whose keeper was killed`);
  }
  return swept;
}

/** Moves the directory away first, so that of two sweepers one works; puts back what turned out to be new. */
async function removeStale(path: string, name: string, stale: GuestState): Promise<boolean> {
  const away = join(runDir(), `.old-${ownerToken()}-${name}`);
  try {
    await rename(path, away);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
  const moved = await readState(away);
  if (moved !== undefined && moved.keeper !== stale.keeper) {
    await rename(away, path);
    return false;
  }
  await rm(away, { recursive: true, force: true });
  return true;
}
