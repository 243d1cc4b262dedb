import { Command, Option } from 'commander';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { redisServers, type RedisServer } from '../../toolchain/redis.js';
import { serverSources } from '../../vm/image/source-package.js';
import type { Work } from '../../vm/image/work.js';
import { excludedFiles, exclusions } from './exclusions.js';
import { isProven, missing, runTcl, variants, type TclResult, type Variant } from './tcl.js';

interface Options {
  readonly server?: RedisServer;
  readonly variant?: Variant;
  readonly clients: string;
  readonly out: string;
}

/** The directories whose files the servers' own `runtest` runs. */
const directories = ['unit', 'unit/type', 'unit/cluster', 'integration'];

const options = new Command('test:redis')
  .description('run the servers’ own test suites: each variant must pass what the stock server passes')
  .addOption(new Option('--server <name>', 'only this server').choices(redisServers))
  .addOption(
    new Option('--variant <name>', 'only this variant, and the stock server').choices(Object.keys(variants)),
  )
  .option('--clients <n>', 'files in parallel', '4')
  .option('--out <dir>', 'directory for the lists', 'results/redis-tests')
  .argument('[files...]', 'files such as unit/protocol; default: all')
  .parse();

const abort = new AbortController();
process.once('SIGINT', () => {
  abort.abort(new Error('interrupted'));
});
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
  const files = (await Promise.all(lists)).flat().sort();
  return files.filter((file) => excludedFiles[file] === undefined);
}

async function save(
  server: RedisServer,
  variant: Variant,
  { out }: Options,
  result: TclResult,
): Promise<void> {
  await mkdir(out, { recursive: true });
  const name = join(out, `${server}-${variant}`);
  const lines = [
    ...result.passed.map((test) => `ok ${test}`),
    ...result.failed.map((test) => `not ok ${test}`),
  ];
  await writeFile(`${name}.txt`, `${lines.join('\n')}\n`);
  await writeFile(`${name}.log`, result.output);
}

/** One line per test, with a letter for each variant that passed it as often as the stock server did. */
function passList(
  server: RedisServer,
  files: readonly string[],
  results: ReadonlyMap<Variant, TclResult>,
): string {
  const letters = [...results.keys()].map((variant) => `${variant.slice(0, 1).toUpperCase()} ${variant}`);
  const head = [`# Tests of ${server} that pass: ${letters.join(', ')}.`, `# Files: ${files.join(' ')}`];
  const stock = results.get('stock')?.passed ?? [];
  const lost = new Map(
    [...results].map(([variant, result]) => [variant, missing({ ...result, passed: stock }, result)]),
  );
  const lines = [...new Set(stock)].map((name) => {
    const marks = [...lost].map(([variant, names]) =>
      names.includes(name) ? '-' : variant.slice(0, 1).toUpperCase(),
    );
    return `${marks.join('')} ${name}`;
  });
  return [...head, ...lines, ''].join('\n');
}

async function testServer(server: RedisServer, given: Options): Promise<boolean> {
  const files = options.args.length > 0 ? options.args : await allFiles(server);
  const skip = exclusions
    .filter((exclusion) => (exclusion.server ?? server) === server)
    .map(({ test }) => test);
  const chosen = (Object.keys(variants) as Variant[]).filter(
    (variant) => variant === 'stock' || given.variant === undefined || given.variant === variant,
  );
  let stock: TclResult | undefined;
  const passedBy = new Map<Variant, TclResult>();
  let good = true;
  for (const variant of chosen) {
    const result = await runTcl({ server, variant, files, skip, clients: Number(given.clients) }, work);
    stock ??= result;
    const lost = missing(stock, result);
    const proven = isProven(variant, result);
    const { used } = result;
    say(
      `${server} ${variant}: ${result.passed.length} passed, ${result.failed.length} failed; ` +
        `${used.accepted} connections accepted by ${used.servers} servers that ended in order, ` +
        `${used.attached} on rings, ${used.detached} detached, ${used.plain} plain`,
    );
    for (const name of lost) say(`  passed by the stock server only: ${name}`);
    for (const name of result.failed) say(`  failed: ${name}`);
    if (!proven) say('  connections did not go where they should');
    good &&= lost.length === 0 && proven;
    await save(server, variant, given, result);
    passedBy.set(variant, result);
  }
  await writeFile(join(given.out, `${server}.txt`), passList(server, files, passedBy));
  return good;
}

const given = options.opts<Options>();
let good = true;
for (const server of redisServers) {
  if ((given.server ?? server) === server) good = (await testServer(server, given)) && good;
}
process.exitCode = good ? 0 : 1;
