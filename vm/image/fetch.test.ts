import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, it } from '@jest/globals';
import { answerFrom, lockedPackage, makeDeb, serve, testLock } from '../../test/fixtures/debs.js';
import { FastioError } from '../errors.js';
import { silent } from '../progress.js';
import { type FetchOptions, fetchPackages } from './fetch.js';
import type { Lock } from './lock.js';

let nowhere: string;
let cache: string;
let names: readonly string[];
let debs: ReadonlyMap<string, Buffer>;
let lock: Lock;

beforeAll(async () => {
  // A port that was free a moment ago: nobody listens there.
  await using server = await serve(answerFrom(new Map()));
  nowhere = `${server.base}/debian`;
});

beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'fastio-fetch-'));
  process.env['FASTIO_CACHE'] = cache;
  names = ['alpha', 'beta+x', 'gamma'];
  const made = await Promise.all(
    names.map(async (name) => ({
      name,
      deb: await makeDeb([{ path: `usr/share/${name}`, content: name.repeat(9_000) }], 'none'),
    })),
  );
  lock = testLock(made.map(({ name, deb }) => lockedPackage(name, deb)));
  debs = new Map(made.map(({ deb }, index) => [`/debian/${lock.packages[index]?.poolPath ?? ''}`, deb]));
});

afterEach(async () => {
  delete process.env['FASTIO_CACHE'];
  await rm(cache, { recursive: true });
});

/** Only the mirrors a test names, and no long waits. */
function options(preferred: readonly string[], more: Partial<FetchOptions> = {}): FetchOptions {
  return {
    ...{ report: silent, signal: new AbortController().signal, preferred, aptDirectory: '/nonexistent' },
    ...{ publicMirror: nowhere, snapshotArchive: nowhere, idleMs: 5_000, pauseMs: 1, ...more },
  };
}

async function failureOf(work: Promise<unknown>): Promise<FastioError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof FastioError) return error;
  throw new Error(`expected a FastioError, got ${String(error)}`);
}

const inStore = (): Promise<string[]> => readdir(join(cache, 'debs'));
const pathOf = (index: number): string => [...debs.keys()][index] ?? '';

it('fetches every package once, and nothing the next time', async () => {
  await using mirror = await serve(answerFrom(debs));
  const events: unknown[] = [];

  const debOf = await fetchPackages(
    lock,
    options([`${mirror.base}/debian`], { report: (event) => events.push(event) }),
  );
  await fetchPackages(lock, options([`${mirror.base}/debian`]));

  expect([...mirror.requests].sort()).toEqual([...debs.keys()].sort());
  for (const [index, entry] of lock.packages.entries()) {
    expect(await readFile(debOf(entry))).toEqual(debs.get(pathOf(index)));
  }
  const totalBytes = lock.packages.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  expect(events.at(-1)).toEqual({
    ...{ kind: 'transfer', name: lock.id, doneBytes: totalBytes, totalBytes },
    items: { done: 3, total: 3 },
  });
});

it('asks the preferred mirror, the host’s, the public one and the snapshot archive, in this order', async () => {
  const asked: string[] = [];
  await using server = await serve((path, response) => {
    const prefix = /^\/([a-z]+)\//.exec(path)?.[1] ?? '';
    if (path.endsWith(lock.packages[0]?.poolPath ?? '?')) asked.push(path);
    const content =
      prefix === 'archive' ? debs.get(path.replace('/archive/20260913T075541Z', '/debian')) : undefined;
    response.statusCode = content === undefined ? 404 : 200;
    response.end(content);
  });
  await writeFile(join(cache, 'sources.list'), `deb [arch=amd64] ${server.base}/host/debian/ trixie main\n`);
  const only: Lock = { ...lock, packages: lock.packages.slice(0, 1) };

  await fetchPackages(only, {
    ...options([`${server.base}/preferred`], { aptDirectory: cache }),
    ...{ publicMirror: `${server.base}/public`, snapshotArchive: `${server.base}/archive` },
  });

  const pool = only.packages[0]?.poolPath ?? '';
  expect(asked).toEqual([
    `/preferred/${pool}`,
    `/host/debian/${pool}`,
    `/public/${pool}`,
    `/archive/20260913T075541Z/${pool}`,
  ]);
});

it('falls back to the snapshot archive for a version that has left the mirror', async () => {
  const archive = '/archive/debian/20260913T075541Z';
  await using server = await serve((path, response) => {
    const isGone = path === pathOf(1);
    answerFrom(debs)(isGone ? 'gone' : path.replace(archive, '/debian'), response);
  });

  await fetchPackages(lock, {
    ...options([]),
    ...{ publicMirror: `${server.base}/debian`, snapshotArchive: `${server.base}/archive/debian` },
  });

  expect(server.requests.filter((path) => path.startsWith(archive))).toEqual([
    `${archive}/${lock.packages[1]?.poolPath ?? ''}`,
  ]);
  expect(await inStore()).toHaveLength(3);
});

it('never uses other bytes than the lock names, and takes the right ones from the next mirror', async () => {
  const flipped = (deb: Buffer): Buffer =>
    Buffer.from(deb.map((byte, index) => (index === 4_000 ? byte ^ 1 : byte)));
  await using bad = await serve(answerFrom(new Map([...debs].map(([path, deb]) => [path, flipped(deb)]))));
  await using good = await serve(answerFrom(debs));

  const debOf = await fetchPackages(lock, options([`${bad.base}/debian`, `${good.base}/debian`]));

  for (const [index, entry] of lock.packages.entries()) {
    expect(await readFile(debOf(entry))).toEqual(debs.get(pathOf(index)));
  }
});

it('names the package when every mirror has other bytes, and keeps none of them', async () => {
  await using bad = await serve((_, response) => response.end('x'.repeat(lock.packages[0]?.sizeBytes ?? 0)));
  const only: Lock = { ...lock, packages: lock.packages.slice(0, 1) };

  const error = await failureOf(fetchPackages(only, options([`${bad.base}/debian`])));

  expect(error.code).toBe('PACKAGE_CORRUPT');
  expect(error.message).toContain('alpha 1.0+b~1');
  expect(error.detail[0]).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/debian: sha256 [0-9a-f]{64}$/);
  expect(await inStore()).toEqual([]);
});

it('tells what each mirror answered when none has a package', async () => {
  await using one = await serve(answerFrom(new Map()));
  await using two = await serve((_, response) => {
    response.statusCode = 503;
    response.end();
  });
  const only: Lock = { ...lock, packages: lock.packages.slice(0, 1) };

  const error = await failureOf(fetchPackages(only, options([`${one.base}/debian`, `${two.base}/debian`])));

  expect(error.code).toBe('PACKAGE_UNAVAILABLE');
  expect(error.detail.slice(0, 2)).toEqual([`${one.base}/debian: HTTP 404`, `${two.base}/debian: HTTP 503`]);
  // A missing file stays missing; an overloaded server is asked again.
  expect(one.requests).toHaveLength(1);
  expect(two.requests).toHaveLength(3);
});

it('says that the network is missing when no mirror can be reached', async () => {
  const error = await failureOf(fetchPackages(lock, options([])));

  expect(error.code).toBe('NETWORK');
  expect(error.detail).toEqual([`${nowhere}: ECONNREFUSED`, `${nowhere}/${lock.snapshot}: ECONNREFUSED`]);
});

it('asks again when a connection is cut in the middle', async () => {
  const cut = new Set<string>();
  await using mirror = await serve((path, response) => {
    const deb = debs.get(path) ?? Buffer.alloc(0);
    if (cut.has(path)) return void response.end(deb);
    cut.add(path);
    sendPart(response, deb, () => response.destroy());
  });

  await fetchPackages(lock, options([`${mirror.base}/debian`]));

  expect(mirror.requests).toHaveLength(6);
  expect(await inStore()).toHaveLength(3);
});

it('gives up a mirror that stops sending', async () => {
  await using stuck = await serve((path, response) => {
    sendPart(response, debs.get(path) ?? Buffer.alloc(0), () => undefined);
  });
  await using good = await serve(answerFrom(debs));

  await fetchPackages(lock, options([`${stuck.base}/debian`, `${good.base}/debian`], { idleMs: 100 }));

  expect(stuck.requests).toHaveLength(3);
  expect(await inStore()).toHaveLength(3);
});

it('goes on where a failed run ended', async () => {
  await using incomplete = await serve(answerFrom(new Map([...debs].slice(0, 2))));
  await failureOf(fetchPackages(lock, options([`${incomplete.base}/debian`])));
  await using complete = await serve(answerFrom(debs));

  await fetchPackages(lock, options([`${complete.base}/debian`]));

  expect(complete.requests).toContain(pathOf(2));
  expect(complete.requests.length).toBeLessThan(3);
});

it.each([
  ['truncated', (file: string) => truncate(file, 100)],
  ['changed', async (file: string) => writeFile(file, (await readFile(file)).fill(0, 50, 60))],
])('fetches a %s package of the cache anew', async (_, breakIt) => {
  await using mirror = await serve(answerFrom(debs));
  const debOf = await fetchPackages(lock, options([`${mirror.base}/debian`]));
  const [first] = lock.packages;
  if (first === undefined) throw new Error('no package');
  await breakIt(debOf(first));

  await fetchPackages(lock, options([`${mirror.base}/debian`]));

  expect(mirror.requests).toHaveLength(4);
  expect(await readFile(debOf(first))).toEqual(debs.get(pathOf(0)));
});

it('refuses before the first byte when the disk is too small, with both figures', async () => {
  await using mirror = await serve(answerFrom(debs));
  const huge: Lock = { ...lock, packages: lock.packages.map((entry) => ({ ...entry, sizeBytes: 1e15 })) };

  const error = await failureOf(fetchPackages(huge, options([`${mirror.base}/debian`])));

  expect(error.code).toBe('DISK_FULL');
  expect(error.message).toMatch(/needs 2,861,023,\d+ MiB, and .* has [\d,]+ MiB free/);
  expect(mirror.requests).toEqual([]);
});

it('stops at once with the signal’s reason, and leaves nothing half-written', async () => {
  const stop = new AbortController();
  const reason = new FastioError('INTERRUPTED', 'stopped', 'Run it again.');
  await using mirror = await serve((path, response) => {
    sendPart(response, debs.get(path) ?? Buffer.alloc(0), () => {
      stop.abort(reason);
    });
  });

  const fetching = fetchPackages(lock, options([`${mirror.base}/debian`], { signal: stop.signal }));

  await expect(fetching).rejects.toBe(reason);
  expect(await inStore()).toEqual([]);
});

it('removes what a killed run left half-written', async () => {
  await using mirror = await serve(answerFrom(debs));
  await fetchPackages(lock, options([`${mirror.base}/debian`]));
  await writeFile(join(cache, 'debs', `x.deb.tmp-4194305-1-${await ownNamespace()}-1`), 'half');

  await fetchPackages(lock, options([`${mirror.base}/debian`]));

  expect(await inStore()).toHaveLength(3);
});

it('refuses a cache that is not a directory', async () => {
  process.env['FASTIO_CACHE'] = join(cache, 'file');
  await writeFile(join(cache, 'file'), '');

  const error = await failureOf(fetchPackages(lock, options([])));

  expect(error.code).toBe('CACHE_UNREADABLE');
  expect(error.message).toContain(join(cache, 'file'));
});

it('refuses a mirror that is no address', async () => {
  const error = await failureOf(fetchPackages(lock, options(['ftp.example'])));

  expect(error.code).toBe('INPUT_INVALID');
  expect(error.message).toContain('"ftp.example"');
});

/** Announces all of `deb`, sends the first half and calls back once it is out. */
function sendPart(response: ServerResponse, deb: Buffer, then: () => void): void {
  response.setHeader('content-length', deb.length);
  response.write(deb.subarray(0, deb.length / 2), then);
}

async function ownNamespace(): Promise<string> {
  const { ownerOf } = await import('./owner.js');
  return ownerOf().namespace;
}
