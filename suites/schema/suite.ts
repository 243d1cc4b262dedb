import { z } from 'zod';
import { placeholderFaults } from '../plan/template.js';

/** Limits that every suite keeps, whoever wrote it. */
export const limits = {
  cpus: 64,
  workers: 63,
  connections: 10_000,
  /** 1 MiB: the largest message the servers and the generator promise to carry. */
  messageBytes: 1_048_576,
  points: 2_000,
} as const;

export const profiles = ['quick', 'ci', 'paper'] as const;
export type ProfileName = (typeof profiles)[number];

export const clocks = ['virtual', 'wall'] as const;
export type ClockName = (typeof clocks)[number];
/** `auto`: the wall clock where hardware carries the guest, the virtual one elsewhere. */
export type ClockChoice = ClockName | 'auto';

/** What a server or module is called in points, claims and tables. */
export const Name = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}$/)
  .describe('1 to 32 of a-z, 0-9, "_" and "-", starting with a letter.');

const Command = z
  .union([z.string().min(1).max(2_000), z.array(z.string().min(1)).min(1).max(100)])
  .describe('Words separated by blanks, or a list of words when one of them holds a blank. No shell.');

const SourceKeys = {
  source: z.string().min(1).optional().describe('Directory of sources, relative to this file.'),
  build: z
    .string()
    .min(1)
    .max(2_000)
    .optional()
    .describe('Shell command run in a copy of the sources; $CC, $CXX, $AR and $STRIP are for the guest.'),
  files: z
    .array(z.string().regex(/^[\w.][\w./-]*$/))
    .min(1)
    .max(100)
    .optional()
    .describe('Files below the sources, built or not, that go to the guest.'),
};

const Server = z
  .strictObject({
    title: z.string().min(1).max(80).optional().describe('What tables and charts call it.'),
    ...SourceKeys,
    run: Command,
    ready: z
      .string()
      .min(1)
      .max(500)
      .default('^READY port=(?<port>\\d+)')
      .describe('Regular expression for the line that says it serves; a group "port" names the port.'),
    module: Name.optional().describe('Kernel module that must be loaded.'),
    threads: z
      .strictObject({
        perWorker: z.number().int().min(0).max(16).default(1),
        extra: z.number().int().min(0).max(64).default(0),
        pinned: z
          .boolean()
          .default(false)
          .describe(
            'The extra threads, the application’s own, have the first CPUs to themselves: how busy they are is told.',
          ),
      })
      .prefault({})
      .describe('CPUs it keeps busy: perWorker × workers + extra.'),
  })
  .describe('One contender.');

const Module = z.strictObject({
  ...SourceKeys,
  parameters: z.string().max(1_000).default('').describe('Words after insmod FILE.'),
});

const positive = (max: number): z.ZodNumber => z.number().int().min(1).max(max);
const list = (max: number): z.ZodArray<z.ZodNumber> => z.array(positive(max)).min(1).max(100);

const Matrix = z
  .strictObject({
    servers: z.array(Name).min(1).max(50),
    workers: list(limits.workers),
    connections: list(limits.connections),
    messageBytes: list(limits.messageBytes),
    rates: list(100_000_000).optional().describe('Requests per second sent (open loop). Without it: closed.'),
    requests: z.array(Name).min(1).max(50).optional().describe('Names of load.requests: what is asked.'),
  })
  .describe('Every combination of these is a point.');

const Milliseconds = z.strictObject({
  wall: positive(600_000).describe('ms of wall-clock time'),
  virtual: positive(60_000).describe('ms of virtual time'),
});

const Profile = z.strictObject({
  boots: positive(100).describe('Fresh guests; intervals are taken over these.'),
  processes: positive(100).describe('Server starts per boot.'),
  windows: positive(1_000).describe('Measurements per server start.'),
  windowMs: Milliseconds,
  warmupMs: Milliseconds.describe('Discarded by the generator before each window.'),
  points: z.array(Matrix).min(1).max(50),
});

const loadFormats = ['fastio-load'] as const;

/** The project's own generator, echo/load, as every suite runs it that does not say otherwise. */
const ownLoad = [
  'load --address 127.0.0.1:{port} --connections {connections} --message-bytes {messageBytes}',
  '--threads {loadThreads} --cpus {loadCpus} --control-cpu 0 --warmup {warmupMs}ms --duration {windowMs}ms',
  '--intervals {intervals} --account-pid {pid} --seed {seed} {clockHints} --timeout {timeoutMs}ms --json -',
].join(' ');

export const Suite = z
  .strictObject({
    $schema: z.string().optional(),
    purpose: z.string().min(20).max(500).describe('The question this suite answers, in one sentence.'),
    vm: z.strictObject({ cpus: positive(limits.cpus), memoryMiB: z.number().int().min(256).max(1_048_576) }),
    baseline: z
      .strictObject({ server: Name, workers: positive(limits.workers) })
      .describe('What every ratio is a ratio to, at the same connections, message and rate.'),
    modules: z.record(Name, Module).default({}),
    servers: z.record(Name, Server),
    load: z
      .strictObject({
        run: Command.default(ownLoad),
        openLoop: Command.default('--rate {rate}').describe('Words added when the point has a rate.'),
        requests: z
          .record(Name, z.string().max(500))
          .optional()
          .describe(
            'Kinds of requests, and the words that stand for {request} then. Points choose among them.',
          ),
        format: z.enum(loadFormats).default('fastio-load').describe('How its output is read.'),
        threads: positive(limits.cpus)
          .default(4)
          .describe('Threads of the generator, the same at every point.'),
      })
      .prefault({})
      .describe('The load generator; without it, the project’s own.'),
    profiles: z
      .strictObject({ quick: Profile, ci: Profile.optional(), paper: Profile.optional() })
      .describe('A profile that is left out is the one before it.'),
  })
  .superRefine((suite, context) => {
    const fault = (path: PropertyKey[], message: string): void => {
      context.addIssue({ code: 'custom', path, message });
    };
    const known = Object.keys(suite.servers).join(', ');
    if (suite.servers[suite.baseline.server] === undefined) {
      fault(['baseline', 'server'], `found "${suite.baseline.server}", expected one of ${known}`);
    }
    for (const [name, server] of Object.entries(suite.servers)) {
      checkServer(suite, name, server, fault);
    }
    for (const [name, module] of Object.entries(suite.modules)) {
      checkSourceKeys(['modules', name], module, fault);
    }
    for (const part of ['run', 'openLoop'] as const) {
      for (const message of placeholderFaults(suite.load[part], 'load')) fault(['load', part], message);
    }
    for (const [name, words] of Object.entries(suite.load.requests ?? {})) {
      for (const message of placeholderFaults(words, 'load')) fault(['load', 'requests', name], message);
    }
    for (const name of profiles) {
      const profile = suite.profiles[name];
      if (profile !== undefined) checkProfile(suite, name, profile, fault);
    }
  });

export type Suite = z.infer<typeof Suite>;
export type SuiteServer = z.infer<typeof Server>;
export type SuiteModule = z.infer<typeof Module>;
export type SuiteProfile = z.infer<typeof Profile>;
export type SuiteMatrix = z.infer<typeof Matrix>;
type AddFault = (path: PropertyKey[], message: string) => void;

/** The profile that stands for one that a suite may leave out. */
export function profileName(suite: Suite, wanted: ProfileName): ProfileName {
  const upTo = profiles.slice(0, profiles.indexOf(wanted) + 1);
  return upTo.findLast((name) => suite.profiles[name] !== undefined) ?? 'quick';
}

/** As `profileName`, the profile itself. */
export function profileOf(suite: Suite, wanted: ProfileName): SuiteProfile {
  return suite.profiles[profileName(suite, wanted)] ?? suite.profiles.quick;
}

/** CPUs a server needs at a number of workers. */
export function serverThreads(server: SuiteServer, workers: number): number {
  return server.threads.perWorker * workers + server.threads.extra;
}

function checkServer(suite: Suite, name: string, server: SuiteServer, fault: AddFault): void {
  checkSourceKeys(['servers', name], server, fault);
  if (server.module !== undefined && suite.modules[server.module] === undefined) {
    const known = Object.keys(suite.modules).join(', ') || 'none is defined';
    fault(
      ['servers', name, 'module'],
      `found "${server.module}", expected a module of this suite (${known})`,
    );
  }
  try {
    new RegExp(server.ready);
  } catch {
    fault(['servers', name, 'ready'], `found ${JSON.stringify(server.ready)}, expected a regular expression`);
  }
  for (const message of placeholderFaults(server.run, 'server')) fault(['servers', name, 'run'], message);
}

function checkSourceKeys(
  path: PropertyKey[],
  keys: Pick<SuiteModule, 'source' | 'build' | 'files'>,
  fault: AddFault,
): void {
  if ((keys.source === undefined) !== (keys.files === undefined)) {
    const [has, lacks] = keys.source === undefined ? ['files', 'source'] : ['source', 'files'];
    fault([...path, has], `found ${has} without ${lacks}, expected both or neither`);
  }
  if (keys.build !== undefined && keys.source === undefined) {
    fault([...path, 'build'], 'found a build without source, expected the directory it is run in');
  }
}

function checkRequests(suite: Suite, path: PropertyKey[], { requests }: SuiteMatrix, fault: AddFault): void {
  const known = Object.keys(suite.load.requests ?? {}).join(', ');
  if (known !== '' && requests === undefined) {
    fault(path, `found no requests, expected a list of some of load.requests: ${known}`);
  }
  requests?.forEach((request, at) => {
    if (suite.load.requests?.[request] === undefined) {
      const expected =
        known === '' ? 'none: the suite has no load.requests' : `one of load.requests: ${known}`;
      fault([...path, 'requests', at], `found "${request}", expected ${expected}`);
    }
  });
}

function checkProfile(
  suite: Suite,
  profile: ProfileName,
  { points, boots, processes, windows }: SuiteProfile,
  fault: AddFault,
): void {
  if (boots * processes * windows < 3) {
    fault(
      ['profiles', profile, 'windows'],
      `found ${boots} × ${processes} × ${windows} samples per point, expected at least 3 (no interval without)`,
    );
  }
  let total = 0;
  points.forEach((matrix, index) => {
    const path = ['profiles', profile, 'points', index];
    total +=
      matrix.servers.length *
      matrix.workers.length *
      matrix.connections.length *
      matrix.messageBytes.length *
      (matrix.rates?.length ?? 1) *
      (matrix.requests?.length ?? 1);
    checkRequests(suite, path, matrix, fault);
    matrix.servers.forEach((server, at) => {
      if (suite.servers[server] === undefined) {
        fault(
          [...path, 'servers', at],
          `found "${server}", expected one of ${Object.keys(suite.servers).join(', ')}`,
        );
      }
    });
    matrix.workers.forEach((workers, at) => {
      if (workers > suite.vm.cpus) {
        fault(
          [...path, 'workers', at],
          `found ${workers} workers, expected at most vm.cpus, which is ${suite.vm.cpus}`,
        );
      }
    });
  });
  if (total > limits.points) {
    fault(['profiles', profile, 'points'], `found ${total} points, expected at most ${limits.points}`);
  }
}
