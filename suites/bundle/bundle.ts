import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { lockFile } from '../../vm/image/lock.js';
import { projectRoot } from '../../vm/paths.js';
import { resultsHash } from '../judge/results.js';
import { loadResults } from '../schema/load.js';
import type { Results } from '../schema/results.js';
import { manifestName, manifestVersion, type Manifest } from './manifest.js';

/** Directories and files whose contents decide what a run does. */
const sources = [
  ...['kmod', 'lib', 'echo', 'redis', 'addon', 'suites', 'vm', 'toolchain', 'cli'],
  ...['fastio.conf', 'package.json', 'package-lock.json'],
];
/** What builds leave beside the sources. */
const skipped = /(^|\/)(node_modules|build|dist)(\/|$)|\.(o|ko|a|so|cmd|mod|symvers|order)$/;

interface Entry {
  readonly path: string;
  readonly content: Buffer;
}

/**
 * Packs a run with all that somebody else needs to check or repeat it: results, raw records, logs, inputs, lock files,
 * the hash of every source file and how to re-run. Equal runs of equal sources give equal bytes.
 * @param directory Of the run.
 * @param out The archive, a .tar.gz; appears whole or not at all.
 * @throws FastioError INPUT_INVALID when the directory is not a run.
 */
export async function writeBundle(directory: string, out: string): Promise<Manifest> {
  const results = await loadResults(directory);
  const entries = [
    ...(await filesOf(directory, 'run')),
    ...(await filesOf(dirname(lockFile('guest-arm64')), 'locks')),
    { path: 'sources.sha256', content: Buffer.from(await sourceHashes()) },
    { path: 'README.md', content: Buffer.from(instructions(results)) },
  ];
  const manifest: Manifest = {
    version: manifestVersion,
    tool: results.tool,
    resultsVersion: results.version,
    resultsHash: resultsHash(results),
    rerun: commandOf(results),
    files: entries.map(({ path, content }) => ({ path, bytes: content.length, sha256: sha256(content) })),
  };
  const text = `${JSON.stringify(manifest, undefined, 1)}\n`;
  await writeArchive([{ path: manifestName, content: Buffer.from(text) }, ...entries], resolve(out));
  return manifest;
}

/** The command that measures the same once more. */
export function commandOf(results: Results): string {
  const { suites, profile, clock, accelAsked, arch, kernel, seed, forced, claims } = results;
  const what =
    claims.length > 0 && suites.length > 1 ? 'reproduce' : `run ${suites.map(({ name }) => name).join(' ')}`;
  const options = [
    ['profile', profile],
    ['clock', clock.name],
    ...(clock.costProfile === null ? [] : [['costs', clock.costProfile]]),
    ['accel', accelAsked],
    ['arch', arch],
    ['kernel', kernel],
    ['seed', `${seed}`],
  ].map(([name = '', value = '']) => `--${name} ${value}`);
  return ['npx fastio', what, ...options, ...(forced ? ['--force'] : [])].join(' ');
}

async function filesOf(directory: string, to: string): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  for (const name of (await readdir(directory)).sort()) {
    const path = join(directory, name);
    const info = await stat(path);
    if (info.isDirectory()) entries.push(...(await filesOf(path, `${to}/${name}`)));
    else if (info.isFile()) entries.push({ path: `${to}/${name}`, content: await readFile(path) });
  }
  return entries;
}

/** As `sha256sum` prints and checks it. */
async function sourceHashes(): Promise<string> {
  const lines: string[] = [];
  const add = async (path: string): Promise<void> => {
    if (skipped.test(path)) return;
    const info = await stat(join(projectRoot, path)).catch(() => undefined);
    if (info?.isDirectory() === true) {
      for (const name of (await readdir(join(projectRoot, path))).sort()) await add(`${path}/${name}`);
    } else if (info?.isFile() === true) {
      lines.push(`${sha256(await readFile(join(projectRoot, path)))}  ${path}\n`);
    }
  };
  for (const path of sources) await add(path);
  return lines.join('');
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

function instructions(results: Results): string {
  const { tool, clock, progress, seed } = results;
  const exact =
    clock.name === 'virtual'
      ? 'Time was virtual: the same command prints the same sha256 of its results on any machine.'
      : 'Time was that of the host: compare with `npx fastio compare run <your run>`, which knows the noise.';
  return `# A run of fastio ${tool.version}

- \`run/\`: results.json, raw records, logs, inputs and the report (open run/report.html)
- \`locks/\`: every Debian package the guest and the tools were made of, by version and sha256
- \`sources.sha256\`: every source file; in a checkout, \`sha256sum --check --quiet sources.sha256\`
- \`${manifestName}\`: this archive's files and their sha256; \`npx fastio bundle --verify FILE\` checks them

${progress.finished} of ${progress.runs} runs, seed ${seed}. To measure the same once more, in a checkout of that version after
\`npm ci\`:

    ${commandOf(results)}

${exact}
`;
}

async function writeArchive(entries: readonly Entry[], out: string): Promise<void> {
  const archive = pack();
  const temp = `${out}.new-${process.pid}`;
  const fill = async (): Promise<void> => {
    for (const { path, content } of entries) {
      await new Promise<void>((done, reject) => {
        archive.entry(
          { name: `fastio-bundle/${path}`, mode: 0o644, mtime: new Date(0) },
          content,
          (error) => {
            if (error === null || error === undefined) done();
            else reject(error);
          },
        );
      });
    }
    archive.finalize();
  };
  try {
    await Promise.all([pipeline(archive, createGzip({ level: 9 }), createWriteStream(temp)), fill()]);
    await rename(temp, out);
  } finally {
    await rm(temp, { force: true });
  }
}
