import { expect, it } from '@jest/globals';
import { FastioError } from '../errors.js';
import { kernels } from '../vm.js';
import { formatLock, lockIds, parseLock, readLock, type LockedPackage } from './lock.js';

const sha256 = 'ab'.repeat(32);
const dash: LockedPackage = {
  ...{ name: 'dash', arch: 'arm64', version: '0.5.12-12', sha256, sizeBytes: 98_765 },
  poolPath: 'pool/main/d/dash/dash_0.5.12-12_arm64.deb',
};
const tzdata: LockedPackage = {
  ...{ name: 'tzdata', arch: 'all', version: '2:2026a~1+b', sha256, sizeBytes: 1 },
  poolPath: 'pool/main/t/tzdata/tzdata_2026a~1+b_all.deb',
};
const header = { id: 'guest-arm64', suites: ['trixie', 'bookworm'], snapshot: '20260913T075541Z' };
const file = '/tmp/guest-arm64.lock';

/** What `parseLock` says of a good lock after `change`, or that it accepts it. */
function complaint(change: (text: string) => string, id = 'guest-arm64'): string {
  const text = change(formatLock({ ...header, packages: [tzdata, dash] }));
  try {
    parseLock(text, { file, id });
    return 'accepted';
  } catch (error) {
    if (!(error instanceof FastioError) || error.code !== 'LOCK_INVALID') throw error;
    return error.message;
  }
}

it('reads back what it writes, sorted by name', () => {
  const text = formatLock({ ...header, packages: [tzdata, dash] });

  const lock = parseLock(text, { file, id: 'guest-arm64' });

  expect(lock).toEqual({
    ...header,
    packages: [dash, tzdata],
    hash: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
  expect(formatLock(lock)).toBe(text);
});

it.each<[string, (text: string) => string, string]>([
  ['an unknown format', (t) => t.replace('format: 1', 'format: 2'), ':1: found format 2, expected format 1'],
  [
    'another id',
    (t) => t.replace('id: guest', 'id: run'),
    ':2: found id run-arm64, expected a lock for guest-arm64',
  ],
  [
    'a bad time',
    (t) => t.replace('20260913T', '2026-09-13 '),
    ':4: found snapshot 2026-09-13 075541Z, expected a time',
  ],
  ['no digest', (t) => t.replace(/# digest: .*\n/, ''), ':1: found no `# digest:` line'],
  [
    'a header that is none',
    (t) => t.replace('# suites:', '# suites'),
    ':3: found # suites trixie bookworm, expected a line',
  ],
  [
    'a missing field',
    (t) => t.replace(' 98765 ', ' '),
    ':7: found 5 fields, expected name arch version sha256 size path',
  ],
  ['an empty line', (t) => t.replace('\ntzdata', '\n\ntzdata'), ':8: found an empty line'],
  [
    'a short hash',
    (t) => t.replace(`${sha256} 98765`, 'abc 98765'),
    ':7: found sha256 "abc", expected 64 hex digits',
  ],
  ['a bad size', (t) => t.replace(' 98765 ', ' 98k '), ':7: found size "98k", expected a number of bytes'],
  [
    'a path that climbs',
    (t) => t.replace('pool/main/d', 'pool/../../d'),
    ':7: found path "pool/../../d/dash',
  ],
  [
    'a foreign architecture',
    (t) => t.replace('dash arm64', 'dash amd64'),
    ':7: found dash for amd64, expected packages for arm64 or all',
  ],
  [
    'an unknown architecture',
    (t) => t.replace('dash arm64', 'dash riscv64'),
    ':7: found architecture "riscv64"',
  ],
  ['a package twice', (t) => `${t}${t.split('\n').at(-2) ?? ''}\n`, ':9: found tzdata:all a second time'],
  ['a changed hash', (t) => t.replace(`${sha256} 98765`, `${'ac'.repeat(32)} 98765`), ':6: found digest '],
  ['a removed package', (t) => t.replace(/dash.*\n/, ''), ':6: found digest '],
  ['a truncated file', (t) => t.slice(0, -5), ':8: found the end of the file, expected a line feed'],
  ['no package', (t) => t.replace(/dash[^]*/, ''), 'found no package, expected at least one'],
  ['nothing at all', () => '', ':1: found no `# format:` line'],
])('refuses %s, naming file and line', (_, change, expected) => {
  expect(complaint(change)).toContain(`${file}${expected.startsWith(':') ? expected : ''}`);
  expect(complaint(change)).toContain(expected);
});

it('refuses a lock for another use', () => {
  expect(complaint((text) => text, 'guest-x86_64')).toBe(
    `${file}:2: found id guest-arm64, expected a lock for guest-x86_64`,
  );
});

it('refuses a missing file by name', async () => {
  await expect(readLock('guest-arm64', '/nonexistent/x.lock')).rejects.toMatchObject({
    code: 'LOCK_INVALID',
    message: '/nonexistent/x.lock: found ENOENT, expected a lock file',
  });
});

it.each(lockIds)('ships a valid %s', async (id) => {
  const lock = await readLock(id);

  expect(lock.packages.length).toBeGreaterThan(3);
});

it.each(['arm64', 'x86_64'])(
  'ships kernels for %s that add to the userland and replace nothing',
  async (arch) => {
    const userland = new Set((await readLock(`guest-${arch}`)).packages.map(({ name }) => name));

    for (const series of kernels) {
      const { packages } = await readLock(`kernel-${series}-${arch}`);
      expect(packages.filter(({ name }) => userland.has(name))).toEqual([]);
      expect(packages.filter(({ name }) => name.startsWith(`linux-image-${series}.`))).toHaveLength(1);
    }
  },
);

it('ships kbuild programs in the compilers’ roots for exactly the kernels it ships', async () => {
  for (const arch of ['arm64', 'x86_64']) {
    const compilers = (await readLock(`build-${arch}`)).packages.map(({ name }) => name);
    for (const series of kernels) {
      const { packages } = await readLock(`kernel-${series}-${arch}`);
      const kbuild = packages.find(({ name }) => name.startsWith('linux-kbuild-'))?.name;
      expect(compilers).toContain(kbuild);
    }
  }
});
