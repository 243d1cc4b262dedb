import { afterAll } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silent } from '../../vm/progress.js';
import type { SuiteOptions } from '../../suites/run/options.js';
import type { FakeGuests } from './fake-vm.js';
import { fakeJobs } from './fake-jobs.js';
import { fakeGuests } from './fake-vm.js';

const made: string[] = [];
afterAll(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true, force: true });
});

/** A fresh directory, gone when the test file that asked for it is done. */
export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'fastio-suites-'));
  made.push(directory);
  return directory;
}

/** A suite small enough for a unit test: two servers, two worker counts, two conditions. */
export const smallSuite = `purpose: Does the testbed measure what it says it measures?
vm: { cpus: 8, memoryMiB: 512 }
baseline: { server: epoll, workers: 1 }
modules:
  fastio: { parameters: debug=1 }
servers:
  epoll: { run: 'epoll --port {port} --threads {workers} --cpus {serverCpus}' }
  fastio:
    title: FastIO
    module: fastio
    run: 'fastio --port {port} --workers {workers} --cpus {serverCpus}'
    threads: { extra: 1, pinned: true }
load:
  run: 'load --address 127.0.0.1:{port} --duration {windowMs}ms --warmup {warmupMs}ms --account-pid {pid} --json -'
  format: fastio-load
  threads: 3
profiles:
  quick: &profile
    boots: 2
    processes: 1
    windows: 2
    windowMs: { wall: 100, virtual: 10 }
    warmupMs: { wall: 10, virtual: 1 }
    points:
      - { servers: [epoll, fastio], workers: [1, 2], connections: [25, 50], messageBytes: [64] }
  ci: *profile
  paper: *profile
`;

/** The same with two kinds of requests. */
export const askingSuite = smallSuite
  .replace(
    "--json -'",
    "--json - {request}'\n  requests: { get: '--protocol get', get-deep: '--protocol get --pipeline 16' }",
  )
  .replaceAll('messageBytes: [64]', 'messageBytes: [64], requests: [get, get-deep]');

export const smallClaims = `claims:
  - id: ratio-2
    title: Two kernel workers carry 1.95 times the requests of epoll
    suite: small
    metric: ratioToBaseline
    point: { server: fastio, workers: 2, connections: 25, messageBytes: 64 }
    published: 1.95
    tolerance: 0.1
    direction: at-least
    source: a table made for this test
    comparable: { virtual: {} }
`;

export interface Fixture {
  readonly directory: string;
  readonly guests: FakeGuests;
  readonly options: SuiteOptions;
}

/** Everything runSuites() needs, with guests that are not there. */
export function fixture(guests: FakeGuests = fakeGuests(), changes: Partial<SuiteOptions> = {}): Fixture {
  const directory = scratch();
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  mkdirSync(join(directory, 'artifacts'));
  const options: SuiteOptions = {
    suites: [file('small.yaml', smallSuite)],
    profile: 'quick',
    clock: 'wall',
    accel: 'tcg',
    requireAccel: false,
    arch: 'arm64',
    kernel: '6.12',
    qemu: 'locked',
    seed: 7,
    out: join(directory, 'out'),
    resume: false,
    force: false,
    profileLines: false,
    confFile: file('fastio.conf', 'max_ker_worker = 4\n'),
    lockFiles: [file('guest-arm64.lock', '# id: guest-arm64\n')],
    toolVersion: '0.0.0',
    claimsFile: file('claims.yaml', smallClaims),
    bootVm: guests.bootVm,
    buildArtifacts: () =>
      Promise.resolve({ directory: join(directory, 'artifacts'), sha256: { 'bin/epoll': 'ab12' } }),
    runJob: fakeJobs().runJob,
    probeHardware: () => Promise.resolve({ usable: false, reason: 'there is none in this test' }),
    report: silent,
    signal: new AbortController().signal,
    ...changes,
  };
  return { directory, guests, options };
}
