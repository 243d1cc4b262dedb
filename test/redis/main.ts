import { Command, Option } from 'commander';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { redisServers, type RedisServer } from '../../toolchain/redis.js';
import { serverSources } from '../../vm/image/source-package.js';
import type { Work } from '../../vm/image/work.js';
import { excludedFiles, exclusions } from './exclusions.js';
import { passList, passTable, readRecord, writeRecord, type FileRecord, type FileResult } from './records.js';
import { addUsage, missing, runTcl, unproven, variantNames, type TclResult, type Variant } from './tcl.js';

interface Options {
  readonly server?: RedisServer;
  readonly variant?: Variant;
  readonly lanes: string;
  readonly out: string;
  readonly continue?: boolean;
  readonly minutes: string;
}

/** The directories whose files the servers' own `runtest` runs. */
const directories = ['unit', 'unit/type', 'unit/cluster', 'integration'];
/** How often a variant may run a file until it has passed each test once that the stock server passed. */
const attempts = 3;

const options = new Command('test:redis')
  .description('run the servers’ own test suites: each variant must pass what the stock server passes')
  .addOption(new Option('--server <name>', 'only this server').choices(redisServers))
  .addOption(new Option('--variant <name>', 'only this variant, and the stock server').choices(variantNames))
  .addOption(new Option('--lanes <n>', 'files in parallel').choices(['1', '2', '3', '4']).default('4'))
  .option('--out <dir>', 'directory for the lists', 'results/redis-tests')
  .option('--continue', 'keep what an earlier run left in that directory, and run what is missing')
  .option('--minutes <n>', 'begin nothing after that time; --continue goes on from there', '1440')
  .argument('[files...]', 'files such as unit/protocol; default: all')
  .parse();

/** Until when runs may begin, by performance.now(). */
let latest = Infinity;
const abort = new AbortController();
let endedBy: string | undefined;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    endedBy = signal;
    abort.abort(new Error(`ended by ${signal}`));
  });
}
const work: Work = {
  signal: abort.signal,
  report: (event) => {
    if (event.kind === 'stage') say(`==> ${event.name} (${event.detail ?? ''})`);
  },
};

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function allFiles(server: RedisServer): Promise<readonly string[]> {
  const tests = join(await serverSources(work), server, 'tests');
  const lists = directories.map(async (directory) =>
    (await readdir(join(tests, directory)))
      .filter((name) => name.endsWith('.tcl'))
      .map((name) => `${directory}/${name.slice(0, -4)}`),
  );
  // In this order, too: what takes longest comes last.
  const files = (await Promise.all(lists)).flatMap((some) => some.sort());
  return files.filter((file) => excludedFiles[file] === undefined);
}

/** Runs a file until it has passed, in one attempt or the other, all that the stock server passed. */
async function tryFile(
  { server, file }: FileRecord,
  variant: Variant,
  stock: FileResult | undefined,
  lane: number,
): Promise<FileResult> {
  const skip = exclusions.filter((one) => (one.server ?? server) === server).map(({ test }) => test);
  const run = (): Promise<TclResult> =>
    runTcl({ server, variant, files: [file], skip, clients: 1, lane }, work);
  const first = await run();
  let last = first;
  let { used } = first;
  const lostFirst = stock === undefined ? [] : missing(stock.passed, first.passed);
  let lost = lostFirst;
  for (let attempt = 2; attempt <= attempts && lost.length > 0; attempt += 1) {
    last = await run();
    used = addUsage(used, last.used);
    lost = missing(lost, last.passed);
  }
  const later = missing(lostFirst, lost);
  return { passed: first.passed, later, lost, failed: last.failed, used };
}

async function testFile(
  record: FileRecord,
  variant: Variant,
  lane: number,
  out: string,
): Promise<FileRecord> {
  if (record.results[variant] !== undefined || performance.now() > latest) return record;
  const { server, file } = record;
  const began = performance.now();
  const result = await tryFile(record, variant, record.results.stock, lane);
  const more = { ...record, results: { ...record.results, [variant]: result } };
  await writeRecord(out, more);
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  say(
    `${server} ${file} ${variant}: ${result.passed.length} passed, ${result.used.attached} connections on rings, ${seconds} s`,
  );
  for (const name of result.later) say(`  passed by the stock server, and only later by this: ${name}`);
  for (const name of result.lost) say(`  passed by the stock server only: ${name}`);
  for (const name of result.failed) say(`  failed: ${name}`);
  return more;
}

async function testServer(server: RedisServer, given: Options): Promise<boolean> {
  const files = options.args.length > 0 ? options.args : await allFiles(server);
  const records = new Map<string, FileRecord>();
  for (const file of files) {
    const kept = given.continue === true ? await readRecord(given.out, server, file) : undefined;
    records.set(file, kept ?? { server, file, results: {} });
  }
  const chosen = variantNames.filter(
    (variant) => variant === 'stock' || given.variant === undefined || given.variant === variant,
  );
  // One after the other: when time runs out, what is done is done for all files.
  for (const variant of chosen) {
    const waiting = [...records.values()];
    const runLane = async (lane: number): Promise<void> => {
      for (let record = waiting.shift(); record !== undefined; record = waiting.shift()) {
        // Without the stock server's there is nothing to compare with.
        if (variant !== 'stock' && record.results.stock === undefined) continue;
        records.set(record.file, await testFile(record, variant, lane, given.out));
      }
    };
    await Promise.all(Array.from({ length: Number(given.lanes) }, (_, lane) => runLane(lane)));
  }

  const all = files.flatMap((file) => records.get(file) ?? []);
  await writeFile(join(given.out, `${server}.txt`), passList(server, all));
  await writeFile(join(given.out, `${server}.md`), `${passTable(all)}\n`);
  let good = true;
  for (const variant of variantNames) {
    const results = all.flatMap(({ results }) => results[variant] ?? []);
    if (results.length === 0) continue;
    const used = results.map((result) => result.used).reduce(addUsage);
    const lost = results.flatMap((result) => result.lost);
    const wrong = unproven(variant, used);
    say(
      `${server} ${variant}: ${lost.length} lost; ${used.accepted} connections accepted by ${used.servers} servers ` +
        `that ended in order, ${used.attached} on rings, ${used.detached} detached, ${used.plain} plain`,
    );
    if (wrong !== undefined) say(`  ${wrong}`);
    good &&= lost.length === 0 && wrong === undefined;
  }
  return good;
}

const given = options.opts<Options>();
latest = performance.now() + Number(given.minutes) * 60_000;
let good = true;
try {
  for (const server of redisServers) {
    if ((given.server ?? server) === server) good = (await testServer(server, given)) && good;
  }
} catch (error) {
  if (endedBy === undefined) throw error;
  say(`ended by ${endedBy}; --continue goes on from there`);
  good = false;
}
process.exitCode = good ? 0 : 1;
