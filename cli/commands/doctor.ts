import { access, constants, mkdir, statfs } from 'node:fs/promises';
import { FastioError } from '../../vm/errors.js';
import { run } from '../../vm/exec.js';
import { guestImage } from '../../vm/image/image.js';
import { toolsRoot } from '../../vm/image/tools.js';
import { probeAccelerators } from '../../vm/machine/qemu-vm.js';
import { cacheDir } from '../../vm/paths.js';
import { architectures } from '../../vm/vm.js';
import { tryWays } from '../../toolchain/ways.js';
import type { Context } from '../context.js';
import { exitCodes } from '../exit.js';

/** One thing looked at. `warn` means a run works, but less well. */
interface Check {
  readonly name: string;
  readonly state: 'ok' | 'warn' | 'fail';
  readonly found: string;
  /** The one command or sentence that mends it; empty when nothing is wrong. */
  readonly remedy: string;
}

/** Tools roots, packages, both images, templates and builds of a first run, in bytes. */
const neededBytes = 4_000_000_000;

/** `fastio doctor`: tries what a run needs, in the order a run needs it; exit 0 only when a run would work. */
export async function doctor(_options: unknown, context: Context): Promise<number> {
  const checks: Check[] = [
    checkPlatform(),
    checkNode(),
    await checkProgram('tar', ['--version'], 'Install it: apt-get install tar'),
    await checkProgram('xz', ['--version'], 'Install it: apt-get install xz-utils'),
    ...(await checkCache()),
  ];
  // Without these there is no point in trying to fetch, build or boot.
  if (checks.every(({ state }) => state !== 'fail')) checks.push(...(await checkByTrying(context)));
  const failed = checks.some(({ state }) => state === 'fail');
  context.print({ ok: !failed, checks }, [...checks.flatMap(checkLines), '', verdict(checks)].join('\n'));
  return failed ? exitCodes.environment : exitCodes.good;
}

function checkLines({ name, state, found, remedy }: Check): readonly string[] {
  const line = `${state.padEnd(4)}  ${name.padEnd(22)} ${found}`;
  return remedy === '' ? [line] : [line, `${' '.repeat(29)}${remedy}`];
}

function verdict(checks: readonly Check[]): string {
  const failed = checks.filter(({ state }) => state === 'fail').length;
  if (failed > 0) return `${failed} of ${checks.length} checks failed: a run would not work here`;
  return 'a run works here';
}

function checkPlatform(): Check {
  const found = `${process.platform} ${process.arch}`;
  const ok = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64');
  const remedy = ok ? '' : 'Use a Linux machine of x86_64 or arm64, bare, virtual or in a container.';
  return { name: 'host', state: ok ? 'ok' : 'fail', found, remedy };
}

function checkNode(): Check {
  const major = Number(process.versions.node.split('.')[0]);
  const ok = major >= 20;
  return {
    name: 'node',
    state: ok ? 'ok' : 'fail',
    found: process.versions.node,
    remedy: ok ? '' : 'Install Node 20 or newer.',
  };
}

async function checkProgram(name: string, args: readonly string[], remedy: string): Promise<Check> {
  try {
    const result = await run([name, ...args]);
    if (result.status === 0) {
      return { name, state: 'ok', found: result.stdout.split('\n')[0] ?? '', remedy: '' };
    }
    return { name, state: 'fail', found: `status ${result.status}`, remedy };
  } catch {
    return { name, state: 'fail', found: 'not found', remedy };
  }
}

async function checkCache(): Promise<readonly Check[]> {
  const directory = cacheDir();
  const name = 'cache';
  try {
    await mkdir(directory, { recursive: true });
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    return [{ name, state: 'fail', found, remedy: 'Set FASTIO_CACHE to a directory of yours.' }];
  }
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  const gb = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
  const enough = freeBytes >= neededBytes;
  return [
    { name, state: 'ok', found: directory, remedy: '' },
    {
      name: 'disk',
      state: enough ? 'ok' : 'fail',
      found: `${gb(freeBytes)} free, ${gb(neededBytes)} needed from an empty cache`,
      remedy: enough ? '' : 'Free some space, run `fastio clean`, or set FASTIO_CACHE to a larger disk.',
    },
  ];
}

/** The checks that only a trial can answer: downloads, ways to build, accelerators. */
async function checkByTrying(context: Context): Promise<readonly Check[]> {
  const checks: Check[] = [];
  const attempt = async (name: string, work: () => Promise<readonly Check[]>): Promise<boolean> => {
    try {
      checks.push(...(await work()));
      return true;
    } catch (error) {
      context.signal.throwIfAborted();
      if (!(error instanceof FastioError)) throw error;
      checks.push({ name, state: 'fail', found: error.message, remedy: error.remedy });
      return false;
    }
  };
  const hasTools = await attempt('packages', async () => {
    await toolsRoot('run', context);
    await toolsRoot('build', context);
    for (const arch of architectures) await guestImage({ arch, kernel: '6.12' }, context);
    return [{ name: 'packages', state: 'ok', found: 'tools and guest images are in the cache', remedy: '' }];
  });
  if (!hasTools) return checks;
  await attempt('cross builds', () => checkWays(context));
  for (const arch of architectures)
    await attempt(`guests of ${arch}`, () => checkAccelerators(arch, context));
  return checks;
}

async function checkWays(context: Context): Promise<readonly Check[]> {
  const roots = { run: await toolsRoot('run', context), build: await toolsRoot('build', context) };
  const ways = await tryWays(roots, context.signal);
  const chosen = ways.find(({ works }) => works);
  const tried: Check[] = ways.map(({ name, works, reason }) => ({
    name: `build by ${name}`,
    state: works ? 'ok' : 'warn',
    found: `${works ? 'works' : 'does not work'}: ${reason}`,
    remedy: '',
  }));
  const summary: Check =
    chosen === undefined
      ? {
          name: 'cross builds',
          state: 'warn',
          found: 'no way into the compilers’ root; builds happen inside the guest, about twenty times slower',
          remedy:
            'Allow unprivileged user namespaces: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0',
        }
      : { name: 'cross builds', state: 'ok', found: `by ${chosen.name}: ${chosen.reason}`, remedy: '' };
  return [...tried, summary];
}

async function checkAccelerators(
  arch: (typeof architectures)[number],
  context: Context,
): Promise<readonly Check[]> {
  const probes = await probeAccelerators(arch, '6.12', { qemu: 'locked', ...context });
  return probes.map(({ accel, usable, reason }) => ({
    name: `${arch} by ${accel}`,
    // Emulation is the last resort: when even that fails, no guest starts.
    state: usable ? 'ok' : accel === 'tcg' ? 'fail' : 'warn',
    found: `${usable ? 'works' : 'does not work'}: ${reason}`,
    remedy: !usable && accel === 'tcg' ? 'Read the reason above.' : '',
  }));
}
