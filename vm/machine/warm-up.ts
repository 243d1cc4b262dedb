import type { CommandChannel } from '../channel/commands.js';

/**
 * Run once before a template is saved: the programs nearly every guest starts with, so that a resumed guest has
 * them in memory and need not unpack them under emulation each time. Their output and status do not matter.
 */
export const warmUpCommands: readonly (readonly string[])[] = [
  ['/bin/sh', '-c', 'uname -a; id; ls /; cat /proc/cmdline; dmesg; mount; true'],
  [
    '/bin/sh',
    '-c',
    'mkdir -p /tmp/warm; cd /tmp/warm; echo x > x; tar -c x | tar -x; cp x y; rm -rf /tmp/warm',
  ],
  [
    '/bin/sh',
    '-c',
    'dd if=/dev/vdc of=/dev/null bs=4096 count=1 iflag=direct; blockdev --flushbufs /dev/vdc; lsmod; modinfo --version',
  ],
];

export async function warmUp(channel: CommandChannel, signal: AbortSignal): Promise<void> {
  for (const argv of warmUpCommands) {
    await channel.run({ argv, signal, onStdout: () => undefined, onStderr: () => undefined });
  }
}
