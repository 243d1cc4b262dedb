import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildClock } from '../../vm/clock/build.js';
import { prepareClock } from '../../vm/clock/clock.js';
import { run, type RunResult } from '../../vm/exec.js';
import { compileC } from '../../vm/image/compile.js';
import { hostArchitecture, loaderCommand, toolsRoot } from '../../vm/image/tools.js';
import { qemuProgram } from '../../vm/machine/program.js';
import { bootQemu } from '../../vm/machine/qemu-vm.js';
import { projectRoot } from '../../vm/paths.js';
import type { Arch } from '../../vm/vm.js';
import { defaultSpec, hostTemp, noSignal, report } from '../guest/guest.js';

const work = { report, signal: noSignal };
/** A plugin that refuses does so within a second. */
const limitMs = 60_000;

const directory = hostTemp();
let plugin: string;
beforeAll(async () => {
  plugin = (await buildClock(work)).plugin;
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

/** Starts the real QEMU with a machine that has no kernel; whatever it says, it must not run. */
async function startQemu(args: readonly string[], arch: Arch = 'arm64'): Promise<RunResult> {
  const { command } = await qemuProgram('locked', arch, work);
  const machine = ['-nodefaults', '-display', 'none', '-no-user-config'];
  return await run([...command, ...machine, ...args], { signal: AbortSignal.timeout(limitMs) });
}

const virt = ['-M', 'virt', '-cpu', 'neoverse-n1'];
const single = ['-accel', 'tcg,thread=single'];

describe('the plugin in the real QEMU', () => {
  it.each([
    [
      'more vCPUs than it can keep apart',
      [...virt, ...single, '-smp', '65'],
      '',
      /found 65 vCPUs, expected at most 64/,
    ],
    [
      'vCPUs with threads of their own',
      [...virt, '-accel', 'tcg,thread=multi', '-smp', '2'],
      '',
      /thread=single/,
    ],
    ['a clock that counts for all vCPUs', [...virt, ...single, '-icount', 'shift=0'], '', /without icount/],
    ['an unknown argument', [...virt, ...single], ',colour=red', /unknown argument colour/],
    [
      'a cost that is none',
      [...virt, ...single],
      ',svc=-1',
      /argument svc: found "-1", expected a number from 0/,
    ],
    [
      'half a quantum',
      [...virt, ...single],
      ',fine=0.5',
      /argument fine: found "0.5", expected a number from 1/,
    ],
    [
      'half a profile',
      [...virt, ...single],
      ',profile=half',
      /argument profile: found "half", expected off or on/,
    ],
    ['time that stands still', [...virt, ...single], ',insn=0', /time would stand still/],
    ['lines without memory', [...virt, ...single], ',line=60', /needs ram=MIB/],
    [
      'a file that cannot be',
      [...virt, ...single],
      ',stats=/no/such/directory/x',
      /\/no\/such\/directory\/x: No such/,
    ],
  ])('refuses %s, saying what it found and expected', async (_, args, settings, message) => {
    const { status, stderr } = await startQemu([...args, '-plugin', `${plugin}${settings}`]);

    expect(stderr).toMatch(message);
    expect(stderr).toContain('fastio-clock: ');
    expect(status).toBe(1);
  });

  it('refuses a machine of another architecture', async () => {
    const { status, stderr } = await startQemu(['-M', 'q35', ...single, '-plugin', plugin], 'x86_64');

    expect(stderr).toMatch(/found a guest of x86_64, expected a machine of aarch64/);
    expect(status).toBe(1);
  });
});

describe('the plugin in a QEMU that it does not know', () => {
  let fake: string;
  let bare: string;
  beforeAll(async () => {
    fake = await build('fake-qemu', []);
    bare = await build('fake-qemu-bare', ['-DBARE']);
  });

  /** The plugin belongs to the tools root's C library, so what loads it runs with that one, too. */
  async function load(program: string, ...args: readonly string[]): Promise<RunResult> {
    const command = [...loaderCommand(await toolsRoot('run', work)), program, plugin, ...args];
    return await run(command, { signal: AbortSignal.timeout(limitMs) });
  }

  async function build(name: string, flags: readonly string[]): Promise<string> {
    const source = join(projectRoot, 'test/clock/guest/fake-qemu.c');
    const program = await compileC(
      {
        what: name,
        where: 'test/clock/guest',
        arch: hostArchitecture(),
        sources: [{ name: 'fake-qemu.c', content: await readFile(source) }],
        flags: ['-O1', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-rdynamic', ...flags],
        libraries: ['-ldl'],
      },
      await toolsRoot('build', work),
      noSignal,
    );
    const path = join(directory, name);
    await writeFile(path, program);
    await chmod(path, 0o755);
    return path;
  }

  const remedy = /use the QEMU of the tools root .* or add this build as docs\/virtual-time\.md says/;

  it('refuses a version nobody has tried, naming those that were', async () => {
    const { status, stderr } = await load(fake, 'version', '9.2.0');

    expect(stderr).toMatch(/found QEMU 9\.2\.0 \(a fake\), expected 10\.0\.13 or 10\.0\.2 or 11\.1\.3/);
    expect(stderr).toMatch(remedy);
    expect(status).toBe(1);
  });

  it('refuses one that hides its functions, naming the first that it missed', async () => {
    const { status, stderr } = await load(bare, 'version', '10.0.13');

    expect(stderr).toMatch(/does not export qemu_get_cpu/);
    expect(stderr).toMatch(remedy);
    expect(status).toBe(1);
  });

  it('refuses one whose operations are laid out differently', async () => {
    const { status, stderr } = await load(fake, 'layout');

    expect(stderr).toMatch(/interrupt handler is in slot 20, expected 23/);
    expect(stderr).toMatch(remedy);
    expect(status).toBe(1);
  });

  it('refuses one that does not call what was put in place', async () => {
    const { status, stderr } = await load(fake, 'deaf');

    expect(stderr).toMatch(/virtual clock does not follow the accelerator's operations/);
    expect(stderr).toMatch(remedy);
    expect(status).toBe(1);
  });
});

describe('a guest for the clock', () => {
  it.each([
    [
      'another architecture',
      { ...defaultSpec, arch: 'x86_64' as const },
      /found a guest of x86_64, expected arm64/,
    ],
    ['too many vCPUs', { ...defaultSpec, cpus: 65 }, /found 65, expected a whole number from 1 to 64/],
    [
      'a network',
      { ...defaultSpec, forwards: [{ hostPort: 0, guestPort: 22 }] },
      /with a network, expected none/,
    ],
  ])('is refused with %s before anything starts', async (_, spec, message) => {
    await expect(prepareClock(spec, { seed: 1, pace: false }, work)).rejects.toThrow(message);
  });

  it('does not boot without the plugin, and says that it is missing', async () => {
    const { spec, statsFile } = await prepareClock(defaultSpec, { seed: 1, pace: true }, work);
    const gone = spec.qemuArgs.map((word) => word.replace(plugin, `${directory}/gone.so`));

    const booting = bootQemu(
      { ...spec, qemuArgs: gone },
      { name: `clock-gone-${process.pid}`, accel: 'tcg', requireAccel: false, ...work },
    );

    await expect(booting).rejects.toMatchObject({
      code: 'QEMU_START',
      message: expect.stringContaining('gone.so'),
    });
    await rm(statsFile, { force: true });
  });
});
