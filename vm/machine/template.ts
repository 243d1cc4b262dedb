import { createHash } from 'node:crypto';
import { copyFile, open, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, FastioError } from '../errors.js';
import { cachePath, exists, makeOnce, removeWhole } from '../image/cache.js';
import { requireDisk } from '../image/disk.js';
import type { Progress } from '../progress.js';
import type { Work } from '../image/work.js';
import type { KernelReport } from '../vm.js';
import { warmUpCommands } from './warm-up.js';

/**
 * A booted guest at rest: its memory, the state of its devices, and what its kernel said so far. Made once per
 * kind of guest; guests resume from it without changing it.
 */
export interface TemplateFiles {
  readonly directory: string;
  readonly memory: string;
  readonly state: string;
  readonly console: string;
  /** JSON: trouble the kernel had while booting; every resumed guest has had it too. */
  readonly reports: string;
}

/** What a boot leaves behind, of 1 GiB or more of guest memory; measured 100 to 190 MiB. */
const typicalBytes = 256 * 1024 * 1024;
/** Templates kept, the most recently used ones; each holds that much disk space. */
const keptTemplates = 12;

/** Names a template by everything that went into it, `argv` being QEMU's command with paths left out. */
export function templateKey(parts: {
  readonly imageId: string;
  readonly qemuId: string;
  readonly argv: readonly string[];
}): string {
  const words = [parts.imageId, parts.qemuId, ...parts.argv, ...warmUpCommands.flat()];
  const hash = createHash('sha256').update(words.join('\0'));
  return hash.digest('hex').slice(0, 24);
}

function files(directory: string): TemplateFiles {
  return {
    directory,
    memory: join(directory, 'memory'),
    state: join(directory, 'state'),
    console: join(directory, 'console.log'),
    reports: join(directory, 'reports.json'),
  };
}

/**
 * The template of that key, made by `boot` when there is none: it boots a guest whose memory is the file given,
 * saves the rest, and returns what the kernel complained of. Of several processes that want it one boots.
 * @throws FastioError DISK_FULL when it would not fit.
 */
export async function ensureTemplate(
  key: string,
  memoryMiB: number,
  work: Work,
  boot: (parts: TemplateFiles) => Promise<readonly KernelReport[]>,
): Promise<TemplateFiles> {
  const templates = await cachePath('templates');
  const directory = join(templates, key);
  const make = async (temp: string): Promise<void> => {
    await requireDisk(templates, Math.min(typicalBytes, memoryMiB * 1024 * 1024), 'the guest’s template');
    work.report({ kind: 'stage', name: 'boot', detail: 'the first guest of its kind; later ones resume' });
    const parts = files(temp);
    const memory = await open(parts.memory, 'wx', 0o600);
    await memory.truncate(memoryMiB * 1024 * 1024).finally(() => memory.close());
    const reports = await boot(parts);
    await writeFile(parts.reports, JSON.stringify(reports));
  };
  const before = await exists(directory);
  const made = await makeOnce(directory, work.signal, make);
  if (made && before) work.report(madeAnew('a part of it was lost'));
  const now = new Date();
  await utimes(directory, now, now);
  if (made) await dropOldTemplates(templates, key);
  return files(directory);
}

/** What users read when a template was no good. */
export function madeAnew(reason: string): Progress {
  return {
    kind: 'warning',
    message: `the guest's template is made anew: ${reason}`,
    remedy: 'Nothing need be done, unless it happens again.',
  };
}

/** Removes a template that turned out to be broken. Guests that resumed from it keep what they opened. */
export async function dropTemplate(key: string): Promise<void> {
  await removeWhole(join(await cachePath('templates'), key));
}

async function dropOldTemplates(templates: string, keep: string): Promise<void> {
  const names = (await readdir(templates)).filter((name) => /^[0-9a-f]{24}$/.test(name) && name !== keep);
  const aged = await Promise.all(
    names.map(async (name) => ({ name, ms: await lastUse(join(templates, name)) })),
  );
  aged.sort((a, b) => b.ms - a.ms);
  for (const { name } of aged.slice(keptTemplates - 1)) await removeWhole(join(templates, name));
}

async function lastUse(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

/**
 * Begins a resumed guest's console log with its template's, and returns the trouble that is told there.
 * @throws FastioError CACHE_UNREADABLE when that makes no sense.
 */
export async function inheritConsole(
  { console, reports }: TemplateFiles,
  directory: string,
): Promise<readonly KernelReport[]> {
  try {
    await copyFile(console, join(directory, 'console.log'));
    return JSON.parse(await readFile(reports, 'utf8')) as readonly KernelReport[];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FastioError(
      'CACHE_UNREADABLE',
      `a guest's template is broken: ${reason}`,
      `Remove ${reports}.`,
      {
        cause: error,
      },
    );
  }
}
