import { expect, it } from '@jest/globals';
import { baseEntries, isWantedInBase, replacedInBase } from './base.js';
import { mergedDirectories } from './unpack.js';

const captured = new Map([
  [
    'usr/share/base-passwd/passwd.master',
    Buffer.from('root:*:0:0:root:/root:/bin/bash\nsync:*:4:65534::/bin:/bin/sync\n'),
  ],
  ['usr/share/base-passwd/group.master', Buffer.from('root:*:0:\ntty:*:5:\n')],
]);

function contentOf(path: string): string {
  const entry = baseEntries(captured).find((candidate) => candidate.path === path);
  return entry?.type === 'file' ? entry.content.toString() : `${path}: no file`;
}

it('makes users and groups from Debian’s masters, and those the servers need', () => {
  expect(contentOf('etc/passwd')).toMatch(
    /^root:x:0:0:root:\/root:\/bin\/bash\nsync:x:4:65534::\/bin:\/bin\/sync\nsshd:x:990:/,
  );
  expect(contentOf('etc/group')).toMatch(/^root:x:0:\ntty:x:5:\nsshd:x:990:\n/);
  expect(contentOf('etc/shadow')).toMatch(/^root:\*:19000::::::\nsync:\*:/);
});

it('lets nobody in by password', () => {
  expect(
    contentOf('etc/shadow')
      .trim()
      .split('\n')
      .every((line) => line.split(':')[1] === '*'),
  ).toBe(true);
  expect(contentOf('etc/ssh/sshd_config')).toContain('PasswordAuthentication no\n');
});

it('leaves out every packaged file that it makes itself', () => {
  const made = baseEntries(captured).filter(({ type }) => type !== 'directory');

  const isMerged = (path: string): boolean => (mergedDirectories as readonly string[]).includes(path);
  expect(made.map(({ path }) => path).filter((path) => !isMerged(path) && !replacedInBase.has(path))).toEqual(
    [],
  );
});

it.each([
  ['usr/share/doc/dash/copyright', false],
  ['usr/share/man', false],
  ['usr/share/manual/x', true],
  ['usr/share/terminfo/x/xterm', true],
  ['usr/lib/locale/C.utf8/LC_CTYPE', true],
  ['etc/init.d/redis', false],
  ['etc/redis/redis.conf', true],
])('of /%s keeps %s', (path, wanted) => {
  expect(isWantedInBase(path)).toBe(wanted);
});
