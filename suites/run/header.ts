import { readFile } from 'node:fs/promises';
import { basename, relative } from 'node:path';
import { projectRoot } from '../../vm/paths.js';
import type { Header } from '../judge/results.js';
import type { LoadedSuite } from '../schema/load.js';
import type { Results } from '../schema/results.js';
import type { ClockName } from '../schema/suite.js';
import { hostFingerprint } from './fingerprint.js';
import type { SuiteOptions } from './options.js';
import type { GuestFacts } from './runner.js';
import { hashFiles } from './store.js';

export interface HeaderInputs {
  readonly seed: number;
  readonly lockHash: string;
  readonly artifacts: Readonly<Record<string, string>>;
  readonly earlier: Results | undefined;
}

/** What results.json says of a run besides its figures. */
export async function headerOf(
  suites: readonly LoadedSuite[],
  options: SuiteOptions & { readonly clock: ClockName; readonly costs: string },
  { seed, lockHash, artifacts, earlier }: HeaderInputs,
): Promise<Header> {
  const { profile, clock, arch, kernel, shard, force, confFile, toolVersion } = options;
  return {
    tool: { name: 'fastio', version: toolVersion },
    profile,
    clock: earlier?.clock ?? {
      name: clock,
      costProfile: clock === 'virtual' ? options.costs : null,
      description: null,
    },
    accelAsked: options.accel,
    accel: earlier?.accel ?? null,
    accelReason: earlier?.accelReason ?? null,
    arch,
    kernel,
    seed,
    shard: shard === undefined ? null : { ...shard },
    forced: force,
    lockHash,
    conf: { sha256: await hashFiles([confFile]), text: await readFile(confFile, 'utf8') },
    suites: suites.map(({ name, file, sha256, suite }) => ({
      name,
      file: relativeName(file),
      sha256,
      purpose: suite.purpose,
    })),
    fingerprint: {
      host: { ...(await hostFingerprint()) },
      guest: earlier?.fingerprint.guest ?? {},
      artifacts: { ...artifacts },
    },
    resumed: options.resume,
    host: {
      startedAt: earlier?.host.startedAt ?? new Date().toISOString(),
      finishedAt: null,
      elapsedSeconds: earlier?.host.elapsedSeconds ?? 0,
    },
  };
}

/** Results must not depend on where the project or the user's files lie, nor on the project's being a package or a clone. */
function relativeName(file: string): string {
  const paths = [projectRoot, process.cwd()].map((directory) => relative(directory, file));
  return paths.find((path) => !path.startsWith('..')) ?? basename(file);
}

/** The header once a guest has been seen. */
export function withGuest(header: Header, { accel, accelReason, costs, fingerprint }: GuestFacts): Header {
  return {
    ...header,
    accel,
    accelReason,
    clock: {
      ...header.clock,
      costProfile: costs?.profile ?? null,
      description: costs?.description ?? null,
    },
    fingerprint: { ...header.fingerprint, guest: { ...fingerprint } },
  };
}
