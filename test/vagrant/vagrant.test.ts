import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, runOrThrow, type RunResult } from '../../vm/exec.js';
import { projectRoot } from '../../vm/paths.js';
import { names, startLibvirt, type TestLibvirt } from './libvirt.js';

/** How long the packages, libvirt and the box may take to be there, in milliseconds. */
const startMs = 1_200_000;
/** How long one command of Vagrant's may take, in milliseconds: starting the guest, above all. */
const commandMs = 900_000;

let libvirt: TestLibvirt;
let scratch: string;
let box: string;
/** Takes back what there is so far, even when the next thing could not be had. */
const cleanUps: (() => unknown)[] = [];

// Each part gives up by itself before jest does, which would leave it running.
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'fastio-vagrant-'));
  cleanUps.unshift(() => {
    rmSync(scratch, { recursive: true, force: true });
  });
  // libvirt's QEMU is another user and has to get at the box.
  chmodSync(scratch, 0o755);
  libvirt = await startLibvirt(scratch, AbortSignal.timeout(startMs));
  cleanUps.unshift(() => libvirt[Symbol.asyncDispose]());
  box = process.env['FASTIO_BOX'] ?? join(scratch, 'fastio.box');
  if (process.env['FASTIO_BOX'] === undefined) await makeBox(box);
  const home = join(scratch, 'home');
  mkdirSync(home);
  writeFileSync(
    join(home, 'Vagrantfile'),
    `Vagrant.configure('2') do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.uri = '${libvirt.uri}'
    libvirt.default_prefix = '${names.prefix}'
    libvirt.storage_pool_name = '${names.pool}'
    libvirt.management_network_name = '${names.network}'
    libvirt.management_network_address = '192.168.199.0/24'
    libvirt.serial type: 'file', source: { path: '${join(scratch, 'console')}' }
  end
end
`,
  );
  cleanUps.unshift(() => vagrant('destroy', '--force'));
}, 3 * startMs);

afterAll(async () => {
  for (const cleanUp of cleanUps) await cleanUp();
});

async function makeBox(out: string): Promise<void> {
  const command = [process.execPath, join(projectRoot, 'dist/cli/main.js')];
  await runOrThrow([...command, 'image', 'box', '--out', out], { signal: AbortSignal.timeout(startMs) });
}

/** As a user types it in the repository, with nothing of it kept outside of the scratch directory. */
async function vagrant(...args: readonly string[]): Promise<RunResult> {
  return await run(['vagrant', ...args], {
    cwd: projectRoot,
    signal: AbortSignal.timeout(commandMs),
    env: {
      ...process.env,
      FASTIO_BOX: box,
      VAGRANT_HOME: join(scratch, 'home'),
      VAGRANT_DOTFILE_PATH: join(scratch, 'state'),
      VAGRANT_CHECKPOINT_DISABLE: '1',
    },
  });
}

/** The last lines that the guest wrote to its console. */
async function lastConsoleLines(): Promise<string> {
  return (await run(['tail', '-n', '40', join(scratch, 'console')])).stdout;
}

it('accepts the Vagrantfile', async () => {
  expect(await vagrant('validate')).toMatchObject({ status: 0 });
});

it('says that a box in a closed directory cannot be used, and how to open it', async () => {
  await vagrant('box', 'add', '--name', 'fastio', box);
  chmodSync(join(scratch, 'home'), 0o700);

  const { status, stderr } = await vagrant('up', '--provider', 'libvirt');
  chmodSync(join(scratch, 'home'), 0o755);

  expect(status).not.toBe(0);
  expect(stderr).toContain(`Run \`chmod o+x ${join(scratch, 'home')}\``);
});

it(
  'brings up a guest with FastIO loaded, which serves, halts and is gone',
  async () => {
    const up = await vagrant('up', '--provider', 'libvirt');
    if (up.status !== 0) throw new Error(`${up.stdout}${up.stderr}${await lastConsoleLines()}`);

    const device = await vagrant('ssh', '-c', 'ls -l /dev/fastio && cat /proc/modules && dmesg');
    const echo = await vagrant('ssh', '-c', serve);
    const halted = await vagrant('halt');
    const destroyed = await vagrant('destroy', '--force');

    expect(device).toMatchObject({ status: 0 });
    expect(device.stdout).toMatch(/^c.* \/dev\/fastio\r?$/m);
    expect(device.stdout).toMatch(/^fastio \d+/m);
    expect(device.stdout).not.toMatch(/WARNING:|BUG:|Oops/);
    expect(echo).toMatchObject({ status: 0 });
    expect(echo.stdout).toMatch(/"requests": ?[1-9]/);
    expect(halted).toMatchObject({ status: 0 });
    expect(destroyed).toMatchObject({ status: 0 });
    const left = await run(['virsh', '-c', libvirt.uri, 'list', '--all', '--name']);
    expect(left.status).toBe(0);
    expect(left.stdout).not.toContain(names.prefix);
  },
  3 * commandMs,
);

it('does not replace a box that is there', async () => {
  const command = [process.execPath, join(projectRoot, 'dist/cli/main.js')];
  const { status, stderr } = await run([...command, 'image', 'box', '--out', box]);

  expect(status).toBe(2);
  expect(stderr).toContain(`${box} is there already`);
});

/** A second of echoes through the module's workers; the generator checks each byte. */
const serve = [
  'cd /opt/box/bin',
  './fastio --port 7777 --backend kernel --workers 1 >/tmp/server & server=$!',
  'until grep -q READY /tmp/server; do kill -0 $server || exit 1; sleep 0.1; done',
  './load --address 127.0.0.1:7777 --connections 4 --duration 1 --warmup 0.2; status=$?',
  'kill $server; wait $server; cat /tmp/server; exit $status',
].join('\n');
