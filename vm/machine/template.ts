import { createHash } from 'node:crypto';
import { copyFile, open, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, FastioError } from '../errors.js';
import { cachePath, makeOnce, removeWhole } from '../image/cache.js';
import { requireDisk } from '../image/disk.js';
import type { Work } from '../image/work.js';
import type { KernelReport } from '../vm.js';
import { warmUpCommands } from './warm-up.js';

/**
 * A booted guest at rest: its memory, the state of its devices, and what its kernel said so far. Made once per
 * kind of guest; guests resume from it without changing it.
 */
export interface Template {
  readonly directory: string;
  readonly memory: string;
  readonly state: string;
  readonly console: string;
  /** Trouble the kernel had while booting; every resumed guest has had it too. */
  readonly reports: readonly KernelReport[];
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

export function templateFiles(directory: string): Omit<Template, 'reports'> {
  return {
    directory,
    memory: join(directory, 'memory'),
    state: join(directory, 'state'),
    console: join(directory, 'console.log'),
  };
}

/**
 * The template of that key, made by `boot` when there is none: it boots a guest whose memory is the file given,
 * saves the rest, and returns what the kernel complained of. Of several processes that want it one boots. A
 * broken one is made anew, and the report says so.
 * @throws FastioError DISK_FULL when it would not fit.
 */
export async function ensureTemplate(
  key: string,
  memoryMiB: number,
  work: Work,
  boot: (files: Omit<Template, 'reports'>) => Promise<readonly KernelReport[]>,
): Promise<Template> {
  const templates = await cachePath('templates');
  const directory = join(templates, key);
  const make = async (temp: string): Promise<void> => {
    await requireDisk(templates, Math.min(typicalBytes, memoryMiB * 1024 * 1024), 'the guest’s template');
    work.report({ kind: 'stage', name: 'boot', detail: 'the first guest of its kind; later ones resume' });
    const files = templateFiles(temp);
    const memory = await open(files.memory, 'wx', 0o600);
    await memory.truncate(memoryMiB * 1024 * 1024).finally(() => memory.close());
    const reports = await boot(files);
    await writeFile(join(temp, 'reports.json'), JSON.stringify(reports));
  };
  const made = await makeOnce(directory, work.signal, make);
  const now = new Date();
  await utimes(directory, now, now);
  if (made) await dropOldTemplates(templates, key);
  try {
    return await readTemplate(directory);
  } catch (error) {
    if (made || !(error instanceof FastioError)) throw error;
    work.report({ kind: 'warning', message: `${error.message}; it is made anew`, remedy: 'None is needed.' });
    await dropTemplate(key);
    await makeOnce(directory, work.signal, make);
    return await readTemplate(directory);
  }
}

/** @throws FastioError CACHE_UNREADABLE when a part is missing or makes no sense. */
async function readTemplate(directory: string): Promise<Template> {
  const files = templateFiles(directory);
  try {
    for (const path of [files.memory, files.state]) {
      if ((await stat(path)).size === 0) throw new Error(`${path} is empty`);
    }
    const text = await readFile(join(directory, 'reports.json'), 'utf8');
    return { ...files, reports: JSON.parse(text) as readonly KernelReport[] };
  } catch (error) {
    throw new FastioError(
      'CACHE_UNREADABLE',
      `a guest's template is broken: ${error instanceof Error ? error.message : String(error)}`,
      `Remove ${directory}.`,
      { cause: error },
    );
  }
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

/** A resumed guest's console log begins with its template's. */
export async function inheritConsole(template: Template, directory: string): Promise<void> {
  await copyFile(template.console, join(directory, 'console.log'));
}
