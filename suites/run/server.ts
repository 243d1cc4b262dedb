import { FastioError } from '../../vm/errors.js';
import { deadline, orAbort } from '../../vm/wait.js';
import type { Vm } from '../../vm/vm.js';

/** A server running in the guest. */
export interface GuestServer {
  readonly pid: number;
  readonly port: number;
  /** Aborts with the reason when the server ends before it was told to. */
  readonly ended: AbortSignal;
  /** Its output so far, both streams. */
  readonly log: () => readonly string[];
  /**
   * Ends it with SIGTERM.
   * @throws FastioError GUEST_COMMAND when it does not end in time, or ends with a failure.
   */
  readonly stop: () => Promise<void>;
  /** Ends it with SIGKILL, whatever state it is in. Never throws. */
  readonly kill: () => Promise<void>;
}

export interface ServerSpec {
  /** For messages: `fastio x3`. */
  readonly name: string;
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Its first matching line says that it serves; a group "port" overrides `port`. */
  readonly ready: RegExp;
  readonly port: number;
  readonly readyMs: number;
  readonly stopMs: number;
  readonly signal: AbortSignal;
}

/** A server that prints more than this is talking, not serving; only the last lines are kept. */
const maxLogLines = 2_000;
/** Longer than any suite, so that only stop() and kill() end a server. */
const lifetimeMs = 24 * 3_600_000;
/** Exit status of a process that SIGTERM ended, as a shell reports it. */
const terminatedStatus = 128 + 15;
const pidLine = /^fastio-pid (\d+)$/;

/**
 * Starts a server and waits until it says that it serves.
 * @throws FastioError GUEST_COMMAND with its output when it ends instead, TIMEOUT when it stays silent.
 */
export async function startServer(vm: Vm, spec: ServerSpec): Promise<GuestServer> {
  const log: string[] = [];
  const cut = new AbortController();
  const ended = new AbortController();
  let stopping = false;
  let pid: number | undefined;
  let announce: (match: RegExpExecArray) => void = () => undefined;
  const isReady = new Promise<RegExpExecArray>((resolve) => {
    announce = resolve;
  });
  const take = (line: string): void => {
    const own = pidLine.exec(line)?.[1];
    if (pid === undefined && own !== undefined) {
      pid = Number(own);
      return;
    }
    log.push(line);
    if (log.length > maxLogLines) log.shift();
    const match = spec.ready.exec(line);
    if (match !== null) announce(match);
  };

  // The shell's pid is the server's: exec replaces it.
  const finished = vm.exec(['sh', '-c', 'echo "fastio-pid $$"; exec "$@"', 'sh', ...spec.argv], {
    cwd: spec.cwd,
    env: spec.env,
    timeoutMs: lifetimeMs,
    signal: AbortSignal.any([spec.signal, cut.signal]),
    onStdout: lineReader(take),
    onStderr: lineReader(take),
  });
  finished.then(
    ({ status }) => {
      if (!stopping) ended.abort(endedError(spec, status, log));
    },
    (error: unknown) => {
      if (!ended.signal.aborted) ended.abort(error);
    },
  );

  const kill = async (): Promise<void> => {
    stopping = true;
    cut.abort(new FastioError('INTERRUPTED', `${spec.name} was killed`, ''));
    await finished.then(
      () => undefined,
      () => undefined,
    );
  };
  const late = new FastioError(
    'TIMEOUT',
    `${spec.name} did not say that it serves within ${Math.round(spec.readyMs / 1000)} s`,
    `Make it print a line that matches ${String(spec.ready)} once it listens.`,
    { detail: log },
  );
  let match: RegExpExecArray;
  try {
    const giveUp = AbortSignal.any([spec.signal, vm.died, ended.signal, deadline(spec.readyMs, late)]);
    match = await orAbort(isReady, giveUp);
  } catch (error) {
    await kill();
    throw error;
  }
  const port = Number(match.groups?.['port'] ?? spec.port);
  const serverPid = pid ?? 0;
  return {
    pid: serverPid,
    port,
    ended: ended.signal,
    log: () => [...log],
    kill,
    stop: async () => {
      ended.signal.throwIfAborted();
      stopping = true;
      await vm.exec(['kill', '-TERM', String(serverPid)], { signal: spec.signal });
      const stuck = new FastioError(
        'GUEST_COMMAND',
        `${spec.name} did not end within ${Math.round(spec.stopMs / 1000)} s of SIGTERM`,
        'Let the server end when it is told to.',
        { detail: log.slice(-40) },
      );
      try {
        const giveUp = AbortSignal.any([spec.signal, vm.died, deadline(spec.stopMs, stuck)]);
        const { status } = await orAbort(finished, giveUp);
        if (status !== 0 && status !== terminatedStatus) throw endedError(spec, status, log);
      } catch (error) {
        await kill();
        throw error;
      }
    },
  };
}

function endedError(spec: ServerSpec, status: number, log: readonly string[]): FastioError {
  const how =
    status > 128 && status <= 192 ? `was ended by signal ${status - 128}` : `ended with status ${status}`;
  const last = log.findLast((line) => line.trim() !== '' && !spec.ready.test(line));
  const said = last === undefined ? '' : `: ${last.trim().slice(0, 300)}`;
  return new FastioError('GUEST_COMMAND', `${spec.name} ${how}${said}`, 'Read its last lines.', {
    detail: log.slice(-40),
  });
}

/** Calls back for each line of a stream of chunks; a line without an end counts once the next chunk comes. */
export function lineReader(onLine: (line: string) => void): (chunk: Uint8Array) => void {
  const decoder = new TextDecoder();
  let rest = '';
  return (chunk) => {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line.replace(/\r$/, ''));
  };
}
