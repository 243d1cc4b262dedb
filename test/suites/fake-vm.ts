import { FastioError } from '../../vm/errors.js';
import type { BootVm, ExecOptions, ExecResult, KernelReport, Vm } from '../../vm/vm.js';

/** One server of the fake guest, and how fast it is. */
export interface FakeServer {
  /** Requests per second at a number of workers. */
  readonly rps: (workers: number) => number;
  /** CPUs it keeps busy. */
  readonly cpus: (workers: number) => number;
}

/** What goes wrong, by the run's number within the guest (from 0). */
export interface Mishaps {
  /** The server ends instead of saying READY. */
  readonly crashAtStart?: (run: number, program: string) => boolean;
  /** The generator finds wrong bytes. */
  readonly wrongBytes?: (run: number, program: string) => boolean;
  /** The server dies while it is under load. */
  readonly crashUnderLoad?: (run: number, program: string) => boolean;
  /** The server never says READY. */
  readonly silent?: (run: number, program: string) => boolean;
  /** A kernel warning appears. */
  readonly splat?: (run: number, program: string) => boolean;
  /** The guest dies under load. */
  readonly panic?: (run: number, program: string) => boolean;
  /** Busy share of the generator. */
  readonly generatorBusy?: (program: string) => number;
  /** Called before each load. */
  readonly beforeLoad?: (run: number, program: string) => void;
}

export interface FakeGuests {
  readonly bootVm: BootVm;
  /** argv of every command, in order, over all guests. */
  readonly commands: readonly (readonly string[])[];
  readonly boots: () => number;
  /** Guests that were not powered off. */
  readonly running: () => number;
}

interface Running {
  readonly program: string;
  readonly workers: number;
  readonly end: (result: ExecResult) => void;
}

export const fakeServers: Readonly<Record<string, FakeServer>> = {
  epoll: { rps: (n) => 69_800 * n, cpus: (n) => n },
  io_uring: { rps: (n) => 72_000 * n, cpus: (n) => n },
  fastio: { rps: (n) => 70_200 * n * 1.06, cpus: (n) => n + 1 },
};

/** Guests without a machine: they understand just the commands that the runner gives. */
export function fakeGuests(mishaps: Mishaps = {}, noise = 0.01): FakeGuests {
  const commands: (readonly string[])[] = [];
  let booted = 0;
  let alive = 0;
  const bootVm: BootVm = (spec, { name }) => {
    booted += 1;
    alive += 1;
    const death = new AbortController();
    const servers = new Map<number, Running>();
    const reports: KernelReport[] = [];
    let run = -1;
    let loads = 0;

    const startServer = (argv: readonly string[], options: ExecOptions): Promise<ExecResult> =>
      new Promise((resolve, reject) => {
        run += 1;
        const program = argv[0] ?? '';
        const pid = 1_000 + run;
        const say = (text: string): void => options.onStdout?.(Buffer.from(`${text}\n`));
        const dead = AbortSignal.any([
          death.signal,
          ...(options.signal === undefined ? [] : [options.signal]),
        ]);
        dead.addEventListener('abort', () => {
          reject(dead.reason as Error);
        });
        say(`fastio-pid ${pid}`);
        if (mishaps.crashAtStart?.(run, program) === true) {
          say('bind: address already in use');
          resolve({ status: 1, stdout: '', stderr: '' });
          return;
        }
        const workers = Number(valueOf(argv, '--threads') ?? valueOf(argv, '--workers') ?? 1);
        servers.set(pid, { program, workers, end: resolve });
        if (mishaps.silent?.(run, program) !== true) {
          say(`READY port=${valueOf(argv, '--port') ?? '0'} pid=${pid} server=${program}`);
        }
      });

    const load = async (argv: readonly string[], options: ExecOptions): Promise<ExecResult> => {
      const pid = Number(valueOf(argv, '--account-pid'));
      const server = servers.get(pid);
      if (server === undefined) return { status: 3, stdout: '', stderr: 'load: no such server\n' };
      const { program, workers } = server;
      mishaps.beforeLoad?.(run, program);
      options.signal?.throwIfAborted();
      if (mishaps.panic?.(run, program) === true) {
        death.abort(new FastioError('GUEST_PANIC', 'the guest kernel panicked', 'Read console.log.'));
        throw death.signal.reason;
      }
      if (mishaps.crashUnderLoad?.(run, program) === true) {
        servers.delete(pid);
        server.end({ status: 139, stdout: '', stderr: '' });
        await new Promise((resolve) => setImmediate(resolve));
        options.signal?.throwIfAborted();
      }
      if (mishaps.splat?.(run, program) === true) {
        reports.push({
          severity: 'warning',
          headline: 'WARNING: CPU: 1 PID: 7 at worker.c:42',
          lines: ['Call trace:'],
        });
      }
      loads += 1;
      const wrong = mishaps.wrongBytes?.(run, program) === true;
      const jitter = 1 + noise * Math.sin(loads * 12.9898 + booted * 78.233);
      const output = loadJson({
        server: fakeServers[program] ?? { rps: () => 1_000, cpus: () => 1 },
        workers,
        durationMs: Number.parseInt(valueOf(argv, '--duration') ?? '1000', 10),
        jitter,
        busy: mishaps.generatorBusy?.(program) ?? 0.4,
        wrong,
      });
      const stderr = wrong ? 'load: connection 3: byte 17 is 0x41, expected 0x42\n' : '';
      return { status: wrong ? 1 : 0, stdout: `${JSON.stringify(output)}\n`, stderr };
    };

    const ok = (stdout = ''): ExecResult => ({ status: 0, stdout, stderr: '' });
    const vm: Vm = {
      name,
      info: {
        arch: spec.arch,
        kernelRelease: '6.12.107+deb13-cloud-arm64',
        accel: 'tcg',
        accelReason: 'this host is not arm64',
        cpus: spec.cpus,
        memoryMiB: spec.memoryMiB,
        qemuVersion: '10.0.13',
        qemuPid: 1,
        startedFrom: 'boot',
        forwards: [],
        directory: '/nonexistent',
      },
      died: death.signal,
      exec: async (argv, options = {}) => {
        commands.push(argv);
        death.signal.throwIfAborted();
        if (argv[0] === 'sh' && argv[2]?.includes('fastio-pid') === true)
          return startServer(argv.slice(4), options);
        if (argv[0] === 'load') return load(argv, options);
        if (argv[0] === 'kill') {
          const server = servers.get(Number(argv[2]));
          servers.delete(Number(argv[2]));
          server?.end({ status: 143, stdout: '', stderr: '' });
          return ok();
        }
        if (argv[0] === 'sh')
          return ok('kernelVersion=#1 SMP Debian\nclockSource=arch_sys_counter\ncommandLine=quiet\n');
        return ok();
      },
      push: () => Promise.resolve(),
      pull: () => Promise.resolve(),
      kernelLog: () => Promise.resolve(['[    0.000000] Booting Linux']),
      kernelTrouble: (since = 0) => Promise.resolve({ mark: reports.length, reports: reports.slice(since) }),
      [Symbol.asyncDispose]: () => {
        alive -= 1;
        return Promise.resolve();
      },
    };
    return Promise.resolve(vm);
  };
  return { bootVm, commands, boots: () => booted, running: () => alive };
}

interface FakeLoad {
  readonly server: FakeServer;
  readonly workers: number;
  readonly durationMs: number;
  readonly jitter: number;
  readonly busy: number;
  readonly wrong: boolean;
}

/** What `load --json -` would print. */
export function loadJson({ server, workers, durationMs, jitter, busy, wrong }: FakeLoad): unknown {
  const elapsedNs = durationMs * 1_000_000;
  const rps = server.rps(workers) * jitter;
  const requests = Math.round((rps * durationMs) / 1_000);
  const intervals = Array.from({ length: 10 }, (_, index) => ({
    startNs: Math.round((index * elapsedNs) / 10),
    endNs: Math.round(((index + 1) * elapsedNs) / 10),
    requests: Math.round(requests / 10),
  }));
  const cpuNs = Math.round(server.cpus(workers) * elapsedNs);
  return {
    schema: 'fastio-load',
    version: 1,
    ok: !wrong,
    window: { clock: 'CLOCK_MONOTONIC_RAW', startNs: 1, elapsedNs },
    requests,
    latency: latencyAround((25 / rps) * 1e9, requests),
    intervals,
    generator: { busiestShare: busy, threads: [] },
    accounting: {
      server: { pid: 1, elapsedNs, cpuNs, threads: [{ tid: 1, name: 'server', cpuNs }] },
      softirqThreads: [{ name: 'ksoftirqd/1', cpuNs: 0 }],
      cpus: [{ cpu: 0, stealNs: 0 }],
    },
    errors: {
      total: wrong ? 1 : 0,
      connect: 0,
      wrongBytes: wrong ? 1 : 0,
      first: wrong ? 'connection 3: byte 17 is 0x41, expected 0x42' : null,
    },
  };
}

/** A skewed spread of latencies around a mean, in the generator's own encoding. */
function latencyAround(meanNs: number, count: number): unknown {
  const parts = Array.from({ length: 40 }, (_, index) => {
    const factor = 0.55 * 1.06 ** index;
    const share = Math.exp(-((index - 9) ** 2) / 30) + (index > 20 ? 0.002 : 0);
    return { ns: meanNs * factor, share };
  });
  const whole = parts.reduce((sum, { share }) => sum + share, 0);
  const counts = new Map<number, number>();
  for (const { ns, share } of parts) {
    const n = Math.round((share / whole) * count);
    if (n > 0) counts.set(bucketOf(ns), (counts.get(bucketOf(ns)) ?? 0) + n);
  }
  let previous = -1;
  const buckets = [...counts].flatMap(([bucket, n]) => {
    const distance = bucket - previous;
    previous = bucket;
    return [distance, n];
  });
  return { count, minNs: 0, maxNs: Math.round(meanNs * 0.55 * 1.06 ** 40), sumNs: '0', buckets };
}

/** As echo/load/histogram.h has it. */
export function bucketOf(ns: number): number {
  const value = Math.floor(ns);
  if (value < 2_048) return value;
  const exponent = Math.floor(Math.log2(value)) - 10;
  return exponent * 1_024 + Math.floor(value / 2 ** exponent);
}

/** What follows an option in argv. */
export function valueOf(argv: readonly string[], option: string): string | undefined {
  const at = argv.indexOf(option);
  return at < 0 ? undefined : argv[at + 1];
}
