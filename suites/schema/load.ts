import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FastioError } from '../../vm/errors.js';
import { projectRoot } from '../../vm/paths.js';
import type { ClaimsFile } from './claims.js';
import { ClaimsFile as ClaimsSchema } from './claims.js';
import type { Results } from './results.js';
import { Results as ResultsSchema, resultsVersion } from './results.js';
import type { Fault, SourceFile } from './source.js';
import { checkSource, invalid, readJson, readYaml } from './source.js';
import type { Suite } from './suite.js';
import { Suite as SuiteSchema, profileOf, profiles } from './suite.js';

/** A checked suite file. */
export interface LoadedSuite {
  /** The file's name without its ending. */
  readonly name: string;
  readonly file: string;
  readonly sha256: string;
  readonly suite: Suite;
  readonly source: SourceFile;
}

/** Where the project's own suites and claims are. */
export const suitesDir = join(projectRoot, 'suites');
export const claimsFile = join(suitesDir, 'claims.yaml');

/**
 * Loads a suite by path, or by the name of one of the project's own (`echo`).
 * @throws FastioError INPUT_INVALID with file:line.
 */
export async function loadSuite(nameOrPath: string): Promise<LoadedSuite> {
  const own = join(suitesDir, `${nameOrPath}.yaml`);
  const file = !/[./]/.test(nameOrPath) && existsSync(own) ? own : nameOrPath;
  const source = await readYaml(file);
  const suite = checkSource(source, SuiteSchema);
  const sha256 = createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
  return { name: basename(file).replace(/\.ya?ml$/, ''), file, sha256, suite, source };
}

/**
 * Loads a claims file and checks that every claim names a point which its suite can measure.
 * @param suites Those loaded already; claims on other suites are looked up beside the claims file's own project.
 * @throws FastioError INPUT_INVALID with file:line.
 */
export async function loadClaims(
  file: string = claimsFile,
  suites: readonly LoadedSuite[] = [],
): Promise<ClaimsFile> {
  const source = await readYaml(file);
  const { claims } = checkSource(source, ClaimsSchema);
  const known = new Map(suites.map((suite) => [suite.name, suite.suite]));
  const faults: Fault[] = [];
  for (const [index, claim] of claims.entries()) {
    if (!known.has(claim.suite)) {
      const own = join(suitesDir, `${claim.suite}.yaml`);
      if (!existsSync(own)) {
        const found = `found "${claim.suite}", expected a suite: there is no suites/${claim.suite}.yaml`;
        faults.push({ path: ['claims', index, 'suite'], message: found });
        continue;
      }
      known.set(claim.suite, (await loadSuite(claim.suite)).suite);
    }
    const suite = known.get(claim.suite);
    if (suite === undefined) continue;
    const key = 'points' in claim ? 'points' : 'point';
    const place = 'points' in claim ? claim.points : claim.point;
    const check = (path: string, { workers, ...where }: Places): void => {
      const missing = [workers].flat().filter((one) => !measures(suite, { ...where, workers: one }));
      if (missing.length === 0) return;
      const { server, connections, messageBytes, request } = where;
      const kind = request === undefined ? '' : `, ${request}`;
      const text = `${server} x${missing.join(', x')}, ${connections} connections, ${messageBytes} B${kind}`;
      const message = `found ${text}, expected a point that suite "${claim.suite}" measures in some profile`;
      faults.push({ path: ['claims', index, path], message });
    };
    check(key, place);
    if ('against' in claim) check('against', { ...claim.point, ...claim.against });
  }
  if (faults.length > 0) throw invalid(source, faults);
  return { claims };
}

interface Places extends Omit<Place, 'workers'> {
  readonly workers: number | readonly number[];
}

interface Place {
  readonly server: string;
  readonly workers: number;
  readonly connections: number;
  readonly messageBytes: number;
  readonly request?: string | undefined;
}

function measures(suite: Suite, place: Place): boolean {
  const { server, workers, connections, messageBytes, request } = place;
  const isBaseline = server === suite.baseline.server && workers === suite.baseline.workers;
  return profiles.some((profile) =>
    profileOf(suite, profile).points.some(
      (matrix) =>
        (isBaseline || (matrix.servers.includes(server) && matrix.workers.includes(workers))) &&
        matrix.connections.includes(connections) &&
        matrix.messageBytes.includes(messageBytes) &&
        (request === undefined ? matrix.requests === undefined : matrix.requests?.includes(request) === true),
    ),
  );
}

/**
 * Reads the results of a run.
 * @param directory What was given as --out.
 * @throws FastioError INPUT_INVALID when it is not a run, or of another schema version.
 */
export async function loadResults(directory: string): Promise<Results> {
  const file = join(directory, 'results.json');
  if (!existsSync(file)) {
    throw new FastioError(
      'INPUT_INVALID',
      `${directory}: found no results.json, expected the directory of a run`,
      'Name a directory that was given to `fastio run --out`.',
    );
  }
  const source = await readJson(file);
  const found =
    typeof source.value === 'object' && source.value !== null && 'version' in source.value
      ? source.value.version
      : undefined;
  if (found !== resultsVersion) {
    throw new FastioError(
      'INPUT_INVALID',
      `${file}:${source.lineOf(['version'])} version: found ${found === undefined ? 'nothing' : JSON.stringify(found)}, expected ${resultsVersion}`,
      'Read it with the release of fastio that wrote it.',
    );
  }
  return checkSource(source, ResultsSchema);
}
