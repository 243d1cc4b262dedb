import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { hostMirrors, mirrorList } from './mirrors.js';

let apt: string;

beforeEach(async () => {
  apt = await mkdtemp(join(tmpdir(), 'fastio-apt-'));
  await mkdir(join(apt, 'sources.list.d'));
});

afterEach(async () => {
  delete process.env['FASTIO_MIRROR'];
  await rm(apt, { recursive: true });
});

it('finds Debian’s mirrors in one-line sources, and no security, foreign or disabled ones', async () => {
  await writeFile(
    join(apt, 'sources.list'),
    [
      '# deb http://commented.example/debian trixie main',
      'deb http://one.example/debian/ trixie main',
      'deb [arch=amd64 signed-by=/x.gpg] https://two.example/pub/debian trixie main # note',
      'deb-src http://source.example/debian trixie main',
      'deb http://security.debian.org/debian-security trixie-security main',
      'deb http://archive.ubuntu.com/ubuntu noble main',
      'deb cdrom:[Debian]/ trixie main',
    ].join('\n'),
  );

  expect(hostMirrors(apt)).toEqual(['http://one.example/debian', 'https://two.example/pub/debian']);
});

it('finds Debian’s mirrors in deb822 stanzas', async () => {
  await writeFile(
    join(apt, 'sources.list.d', 'debian.sources'),
    [
      'Types: deb',
      '# http://snapshot.example/archive/debian/20250520T000000Z',
      'URIs: http://one.example/debian',
      ' http://two.example/debian',
      'Suites: trixie trixie-updates',
      '',
      'Types: deb-src',
      'URIs: http://source.example/debian',
      '',
      'Enabled: no',
      'Types: deb',
      'URIs: http://disabled.example/debian',
      '',
      'Types: deb deb-src',
      'URIs: http://one.example/debian-security',
      '',
      'Types: deb',
      'uris: http://mirror.debian.org/whatever',
    ].join('\n'),
  );

  expect(hostMirrors(apt)).toEqual([
    ...['http://one.example/debian', 'http://two.example/debian', 'http://mirror.debian.org/whatever'],
  ]);
});

it('asks each mirror once, whatever names it twice', async () => {
  await writeFile(join(apt, 'sources.list'), 'deb http://one.example/debian trixie main\n');
  process.env['FASTIO_MIRROR'] = 'http://mine.example/debian/, http://one.example/debian';

  expect(mirrorList('20260913T075541Z', { aptDirectory: apt })).toEqual([
    ...['http://mine.example/debian', 'http://one.example/debian', 'https://ftp.debian.org/debian'],
    'https://snapshot.debian.org/archive/debian/20260913T075541Z',
  ]);
});

it('works on a host without apt', () => {
  expect(hostMirrors('/nonexistent')).toEqual([]);
});
