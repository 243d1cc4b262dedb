import type { LayerEntry } from './merge.js';
import { alternatives } from './tools.js';
import { mergedDirectories } from './unpack.js';

const passwdMaster = 'usr/share/base-passwd/passwd.master';
const groupMaster = 'usr/share/base-passwd/group.master';

/** What the guest's other files are made from. */
export const capturedForBase: ReadonlySet<string> = new Set([passwdMaster, groupMaster, 'usr/bin/busybox']);

/** What nobody reads in a guest that lives for minutes: a third of the packages' files. */
export const unwantedInBase =
  /^(usr\/share\/(doc|doc-base|man|info|locale|lintian|bug|i18n|gtk-doc|icons|applications|pixmaps|bash-completion|zsh|fish|base-passwd|debconf|initramfs-tools|apport|menu)|var\/cache|var\/lib\/dpkg|etc\/(init\.d|cron\.[a-z]+|logrotate\.d|rc[0-9S]\.d|systemd)|usr\/lib\/systemd\/system|usr\/lib\/udev)(\/|$)/;

export function isWantedInBase(path: string): boolean {
  return !unwantedInBase.test(path);
}

const hosts = ['127.0.0.1 localhost fastio', '::1 localhost ip6-localhost ip6-loopback'];

/** For `sshd -i` over a connection the host makes: a key of the run, nothing else. */
const sshdConfig = [
  'PermitRootLogin prohibit-password',
  'PasswordAuthentication no',
  'KbdInteractiveAuthentication no',
  'UsePAM no',
  'UseDNS no',
  'PrintMotd no',
  'AcceptEnv LANG LC_* TERM',
  'Subsystem sftp /usr/lib/openssh/sftp-server',
];

/** Users that maintainer scripts would have made: name, uid, home. */
const systemUsers: readonly (readonly [string, number, string])[] = [
  ['sshd', 990, '/run/sshd'],
  ['redis', 991, '/var/lib/redis'],
  ['valkey', 992, '/var/lib/valkey'],
];

/** Mount points and directories that must exist on a read-only root. */
const directories: readonly (readonly [string, number])[] = [
  ['dev', 0o755],
  ['proc', 0o555],
  ['sys', 0o555],
  ['run', 0o755],
  ['tmp', 0o1777],
  ['var/tmp', 0o1777],
  ['root', 0o700],
  ['mnt', 0o755],
  ['usr/lib/fastio-guest', 0o755],
];

/** Everything the guest's userland needs and no package holds; their scripts would have made it. */
export function baseEntries(captured: ReadonlyMap<string, Buffer>): readonly LayerEntry[] {
  const text = (path: string, lines: readonly string[], mode = 0o644): LayerEntry => ({
    ...{ type: 'file', path, mode },
    content: lines.map((line) => `${line}\n`).join(''),
  });
  const passwd = master(captured, passwdMaster);
  return [
    ...mergedDirectories.map((name): LayerEntry => link(name, `usr/${name}`)),
    ...directories.map(([path, mode]): LayerEntry => ({ type: 'directory', path, mode })),
    text('etc/passwd', [
      ...passwd,
      ...systemUsers.map(([n, id, home]) => `${n}:x:${id}:${id}::${home}:/usr/sbin/nologin`),
    ]),
    text('etc/group', [
      ...master(captured, groupMaster),
      ...systemUsers.map(([name, id]) => `${name}:x:${id}:`),
    ]),
    text(
      'etc/shadow',
      [...passwd, ...systemUsers.map(([name]) => name)].map(
        (line) => `${line.split(':')[0] ?? ''}:*:19000::::::`,
      ),
      0o640,
    ),
    text('etc/hostname', ['fastio']),
    text('etc/hosts', hosts),
    text('etc/resolv.conf', ['nameserver 10.0.2.3']),
    text('etc/nsswitch.conf', ['passwd: files', 'group: files', 'shadow: files', 'hosts: files dns']),
    text('etc/fstab', []),
    link('etc/mtab', '/proc/self/mounts'),
    text('etc/ssh/sshd_config', sshdConfig),
    ...alternatives.map(([path, target]) => link(path, target)),
  ];
}

/** Paths of `baseEntries`, whichever packages there are. */
export const replacedInBase: ReadonlySet<string> = new Set([
  ...['passwd', 'group', 'shadow', 'hostname', 'hosts', 'resolv.conf', 'nsswitch.conf', 'fstab', 'mtab'].map(
    (name) => `etc/${name}`,
  ),
  'etc/ssh/sshd_config',
  ...alternatives.map(([path]) => path),
]);

function link(path: string, target: string): LayerEntry {
  return { type: 'symlink', path, mode: 0o777, target };
}

function master(captured: ReadonlyMap<string, Buffer>, path: string): readonly string[] {
  const lines = (captured.get(path)?.toString('utf8') ?? '').trimEnd().split('\n');
  // The second field says that the password, if any, is in the shadow file.
  return lines.map((line) => line.replace(/^([^:]+):[^:]*:/, '$1:x:'));
}
