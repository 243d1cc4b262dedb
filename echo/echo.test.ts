import { beforeAll, expect, it, jest } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { echoPrograms, layOut } from '../toolchain/artifacts.js';
import { checkC } from '../toolchain/check.js';
import { run } from '../vm/exec.js';
import { hostArchitecture } from '../vm/image/tools.js';
import { projectRoot } from '../vm/paths.js';
import { silent } from '../vm/progress.js';

// Three builds, and every server against every client in two of them, on as little as one CPU.
jest.setTimeout(1_800_000);

const work = {
  report: silent,
  signal: new AbortController().signal,
};
const trees = [
  { directory: join(projectRoot, 'echo'), mount: 'echo' },
  { directory: join(projectRoot, 'lib'), mount: 'lib' },
  { directory: join(projectRoot, 'kmod/include'), mount: 'kmod/include' },
];
/** Linked statically, the servers run on this host whatever it has installed. */
let programs: string;

beforeAll(async () => {
  const placed = await echoPrograms(projectRoot, hostArchitecture(), work);
  programs = join((await layOut(placed, work.signal)).directory, 'bin');
});

/** Starts the epoll server for as long as `use` takes; returns its statistics. */
async function withServer(use: (port: number, pid: number) => Promise<void>): Promise<unknown> {
  const server = spawn(join(programs, 'epoll'), ['--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(server, 'exit');
  const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  try {
    const ready = /^READY port=(\d+) pid=(\d+) /.exec(String((await lines.next()).value));
    await use(Number(ready?.[1]), Number(ready?.[2]));
  } finally {
    server.kill('SIGTERM');
  }
  const last = String((await lines.next()).value);
  expect(await ended).toEqual([0, null]);
  return JSON.parse(last);
}

interface EncodedHistogram {
  readonly count: number;
  readonly minNs: number;
  readonly maxNs: number;
  readonly sumNs: string;
  readonly buckets: readonly number[];
}

/** As echo/README.md says, so that the document is tested, too. */
function bucketsOf({ buckets }: EncodedHistogram): ReadonlyMap<number, number> {
  const decoded = new Map<number, number>();
  let index = -1;
  for (let i = 0; i < buckets.length; i += 2) {
    index += buckets[i] ?? NaN;
    decoded.set(index, buckets[i + 1] ?? NaN);
  }
  return decoded;
}

function boundsOf(bucket: number): readonly [lowest: number, highest: number] {
  const exponent = bucket < 2048 ? 0 : Math.floor(bucket / 1024) - 1;
  const lowest = (bucket - 1024 * exponent) * 2 ** exponent;
  return [lowest, lowest + 2 ** exponent - 1];
}

const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);

it('has servers and a generator that pass their tests under ASan, UBSan and TSan', async () => {
  const log = await checkC({ name: 'echo', trees, makeIn: 'echo' }, work);

  expect(log.split('\n').filter((line) => line.startsWith('not ok '))).toEqual([]);
  expect(log.split('\n').filter((line) => line.startsWith('ok ')).length).toBeGreaterThan(300);
});

it('writes JSON whose parts agree with each other and with what the server counted', async () => {
  const address = (port: number) => ['--address', `127.0.0.1:${port}`];
  let output = '';

  const statistics = await withServer(async (port, pid) => {
    const args = ['--connections', '10', '--threads', '2', '--warmup', '50ms', '--duration', '300ms'];
    const load = [join(programs, 'load'), ...address(port), ...args, '--intervals', '7'];
    const result = await run([...load, '--account-pid', String(pid), '--json', '-']);
    expect(result).toMatchObject({ status: 0, stderr: '' });
    output = result.stdout;
  });

  const json = JSON.parse(output) as {
    readonly requests: number;
    readonly requestsPerSecond: number;
    readonly window: { readonly elapsedNs: number };
    readonly latency: EncodedHistogram;
    readonly latencySummary: { readonly p50Ns: number; readonly maxNs: number };
    readonly intervals: readonly {
      readonly startNs: number;
      readonly endNs: number;
      readonly requests: number;
      readonly latency: EncodedHistogram;
    }[];
    readonly accounting: { readonly server: { readonly source: string; readonly cpusUsed: number } };
    readonly totals: { readonly requests: number; readonly bytes: number };
  };
  expect(json).toMatchObject({ schema: 'fastio-load', version: 1, ok: true, loop: 'closed' });
  expect(json.window.elapsedNs).toBe(300_000_000);
  expect(json.requestsPerSecond).toBeCloseTo(json.requests / 0.3, -1);
  expect(json.totals.requests).toBeGreaterThan(json.requests);
  expect(statistics).toMatchObject({ bytes: json.totals.bytes, accepted: 10, closed: 10, errors: 0 });
  expect(json.accounting.server.source).toBe('server');
  expect(json.accounting.server.cpusUsed).toBeGreaterThan(0);
  expect(json.accounting.server.cpusUsed).toBeLessThan(1.1);

  expect(json.intervals).toHaveLength(7);
  expect(sum(json.intervals.map(({ requests }) => requests))).toBe(json.requests);
  json.intervals.forEach(({ startNs, endNs, requests, latency }, i) => {
    expect(startNs).toBe(json.intervals[i - 1]?.endNs ?? 0);
    expect(endNs).toBeGreaterThan(startNs);
    expect(latency.count).toBe(requests);
  });
  expect(json.intervals.at(-1)?.endNs).toBe(json.window.elapsedNs);

  const merged = new Map<number, number>();
  for (const { latency } of json.intervals) {
    for (const [bucket, count] of bucketsOf(latency)) merged.set(bucket, (merged.get(bucket) ?? 0) + count);
  }
  const whole = bucketsOf(json.latency);
  expect(merged).toEqual(whole);
  expect(sum(whole.values())).toBe(json.requests);
  const [first] = [...whole.keys()].slice(0, 1).map(boundsOf);
  const [last] = [...whole.keys()].slice(-1).map(boundsOf);
  expect(first?.[0]).toBeLessThanOrEqual(json.latency.minNs);
  expect(last?.[0]).toBeLessThanOrEqual(json.latency.maxNs);
  expect(last?.[1]).toBeGreaterThanOrEqual(json.latency.maxNs);

  let seen = 0;
  const median = [...whole].find(([, count]) => (seen += count) >= Math.ceil(json.requests / 2));
  expect(json.latencySummary.p50Ns).toBe(boundsOf(median?.[0] ?? NaN)[1]);
});
