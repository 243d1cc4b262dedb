import { readFile } from 'node:fs/promises';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { errnoOf } from '../../vm/errors.js';

/** Facts about the host that decide whether wall-clock figures may be compared with another host's. */
export async function hostFingerprint(): Promise<Readonly<Record<string, string | number>>> {
  const processors = cpus();
  const governor = await sysText('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor');
  const noTurbo = await sysText('/sys/devices/system/cpu/intel_pstate/no_turbo');
  const microcode = /^microcode\s*:\s*(\S+)/m.exec((await sysText('/proc/cpuinfo')) ?? '')?.[1];
  return {
    cpuModel: processors[0]?.model.trim() ?? 'unknown',
    cpus: processors.length,
    memoryMiB: Math.round(totalmem() / 1_048_576),
    platform: platform(),
    arch: arch(),
    kernelRelease: release(),
    node: process.version,
    ...(governor === undefined ? {} : { governor }),
    ...(noTurbo === undefined ? {} : { noTurbo }),
    ...(microcode === undefined ? {} : { microcode }),
    ...told(),
  };
}

/** What a container cannot see of the machine it runs on, as whoever started it put it; nothing elsewhere. */
function told(): Readonly<Record<string, string | number>> {
  const text = process.env['FASTIO_HOST_FACTS'];
  return text === undefined ? {} : (JSON.parse(text) as Readonly<Record<string, string | number>>);
}

async function sysText(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    // Absent on other systems and in containers; unreadable for some users.
    if (errnoOf(error) !== undefined) return undefined;
    throw error;
  }
}
