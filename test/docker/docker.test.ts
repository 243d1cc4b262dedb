import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { resultsHash } from '../../suites/judge/results.js';
import { loadResults } from '../../suites/schema/load.js';
import { bootDocker } from '../../vm/docker/boot.js';
import { explainEngine, ownerLabel } from '../../vm/docker/engine.js';
import { FastioError } from '../../vm/errors.js';
import { projectRoot } from '../../vm/paths.js';
import { silent } from '../../vm/progress.js';
import type { Vm, VmSpec } from '../../vm/vm.js';
import { deadline, until } from '../../vm/wait.js';
import { writeTinySuite } from '../fixtures/tiny-suite.js';
import { startEngine, type TestEngine } from './engine.js';
import { clusterJob } from './job.js';

const command = join(projectRoot, 'dist/cli/main.js');
const spec: VmSpec = {
  ...{ arch: 'arm64', kernel: '6.12', cpus: 2, memoryMiB: 512, qemu: 'locked' },
  ...{ forwards: [], kernelArgs: [], qemuArgs: [] },
};

/** How long an engine, and the first guest in it, may take to start from nothing, in milliseconds. */
const startMs = 1_800_000;

let engine: TestEngine;
let scratch: string;
let vm: Vm;
/** Takes back what there is so far, even when the next thing could not be had. */
const cleanUps: (() => unknown)[] = [];

// Each part gives up by itself before jest does, which would leave it running.
beforeAll(async () => {
  engine = await startEngine(AbortSignal.timeout(startMs));
  cleanUps.unshift(() => engine[Symbol.asyncDispose]());
  scratch = mkdtempSync(join(tmpdir(), 'fastio-docker-'));
  chmodSync(scratch, 0o755);
  cleanUps.unshift(() => {
    rmSync(scratch, { recursive: true, force: true });
  });
  process.env['DOCKER_HOST'] = engine.address;
  process.env['FASTIO_DOCKER_BASE'] = engine.base;
  vm = await bootDocker(spec, { ...bootOptions('first'), signal: AbortSignal.timeout(startMs) });
  cleanUps.unshift(() => vm[Symbol.asyncDispose]());
}, 3 * startMs);

afterAll(async () => {
  for (const cleanUp of cleanUps) await cleanUp();
});

function bootOptions(name: string) {
  return {
    name,
    accel: 'tcg',
    requireAccel: false,
    report: silent,
    signal: AbortSignal.timeout(900_000),
  } as const;
}

async function containers(): Promise<readonly string[]> {
  const all = await engine.docker.listContainers({ all: true, filters: { label: [ownerLabel] } });
  return all.map(({ Id }) => Id);
}

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, [command, ...args], {
    cwd: scratch,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Measures the tiny suite under the virtual clock; results go to `out` in the scratch directory. */
function startRun(backend: 'docker' | 'native', seed: number, out: string): ChildProcess {
  const clock = ['--clock', 'virtual', '--seed', String(seed)];
  return start(['run', writeTinySuite(scratch, 1), ...clock, '--backend', backend, '--out', out]);
}

async function ended(child: ChildProcess): Promise<Ended> {
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** As an expectation of its status, but what it said is seen when it did not end well. */
function expectGood({ code, stderr }: Pick<Ended, 'code' | 'stderr'>): void {
  if (code !== 0) throw new Error(`ended with ${code ?? 'a signal'}:\n${stderr}`);
}

it('runs commands in a guest in a container, with input, status and kernel log', async () => {
  const result = await vm.exec(['sh', '-c', 'cat; uname -m; exit 3'], { stdin: 'from the host\n' });

  expect(result).toMatchObject({ status: 3, stdout: 'from the host\naarch64\n' });
  expect(vm.info).toMatchObject({ arch: 'arm64', accel: 'tcg', cpus: 2 });
  expect((await vm.kernelLog()).join('\n')).toContain('Linux version 6.12');
  expect((await vm.kernelTrouble()).reports).toEqual([]);
});

it('copies files and directories there and back, every byte, mode and link', async () => {
  const tree = join(scratch, 'tree');
  mkdirSync(join(tree, 'deep'), { recursive: true });
  writeFileSync(
    join(tree, 'deep/bytes'),
    Buffer.from(Array.from({ length: 70_000 }, (_, at) => (at * 7) % 256)),
  );
  writeFileSync(join(tree, 'script'), '#!/bin/sh\necho it runs\n', { mode: 0o755 });
  symlinkSync('deep/bytes', join(tree, 'link'));

  await vm.push(tree, '/root/tree');
  await vm.push(join(tree, 'script'), '/root/one');
  await vm.pull('/root/tree', join(scratch, 'back'));

  expect((await vm.exec(['/root/one'])).stdout).toBe('it runs\n');
  expect((await vm.exec(['/root/tree/script'])).stdout).toBe('it runs\n');
  expect((await vm.exec(['readlink', '/root/tree/link'])).stdout).toBe('deep/bytes\n');
  expect(readFileSync(join(scratch, 'back/deep/bytes'))).toEqual(readFileSync(join(tree, 'deep/bytes')));
});

it('says what it cannot copy in the terms of this side', async () => {
  await expect(vm.push(join(scratch, 'nothing'), '/root/x')).rejects.toThrow(`${scratch}/nothing: ENOENT`);
});

it('needs no privileges', async () => {
  const [id = ''] = await containers();
  const { HostConfig } = await engine.docker.getContainer(id).inspect();

  expect(HostConfig.Privileged).toBe(false);
  expect(HostConfig.CapDrop).toEqual(['ALL']);
  expect((HostConfig.CapAdd as readonly string[]).join()).not.toMatch(
    /SYS_ADMIN|SYS_PTRACE|SYS_MODULE|NET_ADMIN/,
  );
  expect(HostConfig.SecurityOpt).toEqual(['no-new-privileges']);
});

it('says that a guest in a container died with it when somebody kills the container', async () => {
  const other = await bootDocker(spec, bootOptions('second'));
  const before = await containers();
  const waiting = other.exec(['sleep', '600'], { timeoutMs: 600_000 });
  const [victim = ''] = before; // The newest comes first.

  await engine.docker.getContainer(victim).kill();

  await expect(waiting).rejects.toMatchObject({ code: 'CONTAINER_GONE' });
  await other[Symbol.asyncDispose]();
  expect(await containers()).toHaveLength(before.length - 1);
});

it(
  'measures the very same figures in a container as outside of it',
  async () => {
    const inside = await ended(startRun('docker', 7, 'inside'));
    const outside = await ended(startRun('native', 7, 'outside'));

    expectGood(inside);
    expectGood(outside);
    const [a, b] = [await loadResults(join(scratch, 'inside')), await loadResults(join(scratch, 'outside'))];
    expect(a.fingerprint.host).toMatchObject({ backend: 'docker' });
    expect(a.fingerprint.host['engine']).toMatch(/^Docker \d/);
    // Modules and programs among them: the container builds in a copy of the compilers' root, and gets the same bytes.
    expect(a.fingerprint.artifacts).toEqual(b.fingerprint.artifacts);
    expect(resultsHash(a)).toBe(resultsHash(b));
    console.log(`sha256 of the results inside and outside: ${resultsHash(a)} ${resultsHash(b)}`);
    // The first build inside: its compilers have to be fetched, too.
  },
  startMs,
);

it('runs a shard as the cluster’s job does, with the same command, image and capabilities', async () => {
  const { job, container } = clusterJob();
  const env = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
  expect(env['FASTIO_SHARDS']).toBe(`${job.spec.completions}`);
  const [image = ''] =
    (await engine.docker.listImages({ filters: { reference: ['fastio'] } }))[0]?.RepoTags ?? [];
  const results = join(scratch, 'job');
  mkdirSync(results);
  writeTinySuite(results, 1);
  Object.assign(env, {
    FASTIO_COMMAND: 'run /results/tiny.yaml',
    FASTIO_SHARDS: '1',
    JOB_COMPLETION_INDEX: '0',
  });
  const [program = '', ...args] = container.command;

  const pod = await engine.docker.createContainer({
    Image: image,
    Entrypoint: [program],
    Cmd: args,
    Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    Labels: { [ownerLabel]: 'job' },
    HostConfig: {
      Binds: [
        `${results}:/results`,
        `${process.env['FASTIO_DOCKER_VOLUME'] ?? 'fastio-cache'}:/var/cache/fastio`,
      ],
      CapDrop: [...container.securityContext.capabilities.drop],
      CapAdd: [...container.securityContext.capabilities.add],
      SecurityOpt: ['no-new-privileges'],
    },
  });
  await pod.start();
  const { StatusCode } = (await pod.wait()) as { readonly StatusCode: number };
  const log = (await pod.logs({ stdout: true, stderr: true })).toString();
  await pod.remove();

  expectGood({ code: StatusCode, stderr: log });
  expectGood(await ended(start(['merge', 'job/shard-1', '--out', 'job-merged'])));
});

it('ends with 3 when its container is killed in mid-run, and leaves nothing behind', async () => {
  const before = await containers();
  const child = startRun('docker', 8, 'killed');
  const result = ended(child);
  const fresh = async (): Promise<string | undefined> =>
    (await containers()).find((id) => !before.includes(id));
  await until(async () => (await fresh()) !== undefined, waiting('no container came'));

  await engine.docker.getContainer((await fresh()) ?? '').kill();

  const { code, stderr } = await result;
  expect(stderr).toContain('the container ended with status 137 before its work was done');
  expect(code).toBe(3);
  expect(await containers()).toEqual(before);
});

it('leaves no container behind when it is killed itself', async () => {
  const before = await containers();
  const child = startRun('docker', 9, 'gone');
  child.stderr?.resume();
  child.stdout?.resume();
  await until(async () => (await containers()).length > before.length, waiting('no container came'));

  child.kill('SIGKILL');
  await once(child, 'exit');

  const onlyThose = async (): Promise<boolean> => {
    const all = await engine.docker.listContainers({ filters: { label: [ownerLabel] } });
    return all.every(({ Id }) => before.includes(Id));
  };
  await until(onlyThose, waiting('the container runs on'));
  // What is left of it is swept by the next one.
  const next = await bootDocker(spec, bootOptions('next'));
  await next[Symbol.asyncDispose]();
  expect(await containers()).toEqual(before);
});

it('says that the engine does not let this user in', async () => {
  const socket = join(scratch, 'closed');
  const listening = createServer().listen(socket);
  await once(listening, 'listening');
  chmodSync(socket, 0o000);
  const args = [command, 'run', writeTinySuite(scratch, 1), '--backend', 'docker'];
  // No mode keeps root out.
  const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  const child = spawn(process.execPath, args, {
    ...{ cwd: scratch, env: { ...process.env, DOCKER_HOST: `unix://${socket}` }, ...user },
    stdio: ['ignore', 'pipe', 'pipe'],
  });

  const { code, stderr } = await ended(child);
  listening.close();

  expect(stderr).toContain(`the container engine at unix://${socket} does not let this user in`);
  expect(code).toBe(3);
});

it('says what to do when the engine’s machine lacks a device', async () => {
  const [image = ''] = (await engine.docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? []);
  const device = { PathOnHost: '/dev/fastio-nothing', PathInContainer: '/dev/kvm', CgroupPermissions: 'rw' };
  const container = await engine.docker.createContainer({
    ...{ Image: image, Entrypoint: ['true'], Labels: { [ownerLabel]: 'device' } },
    HostConfig: { Devices: [device] },
  });

  const refused: unknown = await container.start().catch((error: unknown) => error);
  await container.remove();

  expect(explainEngine(refused)).toMatchObject({ code: 'ENGINE_REFUSED', remedy: 'Use --accel tcg.' });
  expect(explainEngine(refused).message).toContain('/dev/fastio-nothing');
});

it('says what is missing: an engine, a base image', async () => {
  const args = ['run', writeTinySuite(scratch, 1), '--backend', 'docker'];

  const engineless = await ended(start(args, { DOCKER_HOST: `unix://${scratch}/nobody` }));
  const baseless = await ended(start(args, { FASTIO_DOCKER_BASE: 'localhost:1/nothing:none' }));

  expect(engineless).toMatchObject({ code: 3 });
  expect(engineless.stderr).toContain(`no container engine answers at unix://${scratch}/nobody`);
  expect(baseless).toMatchObject({ code: 3 });
  expect(baseless.stderr).toContain('the base image localhost:1/nothing:none cannot be had');
});

function waiting(what: string): { readonly everyMs: number; readonly signal: AbortSignal } {
  return { everyMs: 200, signal: deadline(120_000, new FastioError('TIMEOUT', what, '')) };
}
