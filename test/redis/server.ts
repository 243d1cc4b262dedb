import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { redisModules, type RedisServer } from '../../toolchain/redis.js';
import { serverRoot } from '../../toolchain/server-root.js';
import { hostArchitecture } from '../../vm/image/tools.js';
import type { Work } from '../../vm/image/work.js';
import { projectRoot } from '../../vm/paths.js';
import { openClient, type Client } from './client.js';

export interface ServerSpec {
  readonly server: RedisServer;
  /** Arguments of the module; without them the server is a plain one. */
  readonly module?: string;
  /** Which server's module to load, when it shall be the wrong one. */
  readonly moduleOf?: RedisServer;
  readonly args?: readonly string[];
  /** Text of a configuration file, which a Sentinel needs. Arguments come on top of it. */
  readonly configuration?: string;
  readonly flavour?: 'release' | 'asan';
  /** Path inside its root, where /data is its directory; default: Debian's own. */
  readonly program?: string;
  /** SIGWINCH takes its rings away: see redis/tests/vanish.c. */
  readonly vanishing?: boolean;
  /** Default: a free one. */
  readonly port?: number;
  /** Where it keeps its files; default: a directory that goes with it. */
  readonly directory?: string;
}

/** Debian's own server as a process of this host. Disposing it kills it. */
export interface RunningServer extends AsyncDisposable {
  readonly port: number;
  readonly log: () => string;
  readonly client: () => Promise<Client>;
  /** The fields of a section of INFO. */
  readonly info: (section: string) => Promise<Readonly<Record<string, string>>>;
  readonly kill: (signal: NodeJS.Signals) => void;
  /** Status and signal, once it has ended. */
  readonly ended: Promise<{ readonly status: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** Starts a server and waits until it serves, or has ended. */
export async function startServer(spec: ServerSpec, work: Work): Promise<RunningServer> {
  const { server, flavour = 'release', moduleOf = server } = spec;
  const libraries = ['preload', 'vanish'] as const;
  const modules = await redisModules(projectRoot, hostArchitecture(), work, flavour, libraries);
  const module = modules.find(({ to }) => to.endsWith(`fastio-${moduleOf}.so`))?.from ?? '';
  const own = spec.directory === undefined ? await mkdtemp(join(tmpdir(), 'fastio-server-')) : undefined;
  const directory = spec.directory ?? own ?? '';
  const port = spec.port ?? (await freePort());
  const loading =
    spec.module === undefined
      ? []
      : ['--loadmodule', `/modules/fastio-${moduleOf}.so`, ...spec.module.split(' ')];
  const preloaded = [
    ...(spec.vanishing === true ? ['/modules/vanish.so'] : []),
    ...(flavour === 'asan' ? ['/modules/preload.so', 'libasan.so.8', 'libubsan.so.1'] : []),
  ];
  const asan = {
    ASAN_OPTIONS: 'detect_leaks=1:quarantine_size_mb=4:verify_asan_link_order=0',
    LSAN_OPTIONS: 'exitcode=99',
  };
  if (spec.configuration !== undefined) {
    await writeFile(join(directory, 'server.conf'), `${spec.configuration}\n`);
  }
  const command = await (
    await serverRoot(work)
  ).command(
    {
      binds: [
        { host: directory, inside: '/data', writable: true },
        { host: dirname(module), inside: '/modules', writable: false },
      ],
      cwd: '/data',
      env: { LC_ALL: 'C.UTF-8', LD_PRELOAD: preloaded.join(' '), ...(flavour === 'asan' ? asan : {}) },
    },
    [
      ...[
        spec.program ?? `${server}-server`,
        ...(spec.configuration === undefined ? [] : ['/data/server.conf']),
      ],
      ...['--port', String(port), '--save', '', '--enable-debug-command', 'yes'],
      ...['--repl-diskless-sync-delay', '0', ...(spec.args ?? []), ...loading],
    ],
  );
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  let ready: () => void = () => undefined;
  const isReady = new Promise<void>((resolve) => {
    ready = resolve;
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      // The second is what a Sentinel says.
      if (/Ready to accept connections|Sentinel ID is/.test(log)) ready();
    });
  }
  const ended = once(child, 'close').then(([status, signal]) => ({
    status: status as number | null,
    signal: signal as NodeJS.Signals | null,
  }));
  await Promise.race([isReady, ended]);
  const client = (): Promise<Client> => openClient(port);
  return {
    port,
    log: () => log,
    client,
    info: async (section) => {
      const asking = await client();
      const text = await asking.ask('INFO', section);
      asking.close();
      if (typeof text !== 'string') throw new Error(`INFO ${section}: no text`);
      return Object.fromEntries(
        text.split('\r\n').flatMap((line) => {
          const [, key = '', value = ''] = /^([^#:]+):(.*)$/.exec(line) ?? [];
          return key === '' ? [] : [[key, value]];
        }),
      );
    },
    kill: (signal) => child.kill(signal),
    ended,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await ended;
      if (own !== undefined) await rm(own, { recursive: true, force: true });
    },
  };
}

/** A port that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
