import { FastioError } from '../errors.js';

/**
 * One thing a job does. Times are of the guest's own clock; `{pid:ID}` in argv is the process of that `start`, and
 * `{port:ID}` the port it said it has.
 */
export type JobStep =
  | {
      /** Starts a server and waits until a line of its stdout matches. */
      readonly kind: 'start';
      readonly id: string;
      readonly argv: readonly string[];
      readonly env?: Readonly<Record<string, string>>;
      /** Extended regular expression, as grep takes it. */
      readonly ready: string;
      readonly readyMs: number;
      /** Which group of `ready`, from 1, is the port. */
      readonly portGroup?: number;
    }
  | {
      /** Runs a program to its end. */
      readonly kind: 'run';
      readonly id: string;
      readonly argv: readonly string[];
      readonly env?: Readonly<Record<string, string>>;
      readonly timeoutMs: number;
    }
  /** Ends what was started; fails when it has ended before, does not end, or ends with a failure. */
  | {
      readonly kind: 'stop';
      readonly id: string;
      readonly signal: 'TERM' | 'INT';
      readonly timeoutMs: number;
    }
  | {
      /** Sleeps until the guest is quiet and its clock shows a full second and the offset, which is the seed's unless given. */
      readonly kind: 'settle';
      readonly offsetNs?: number;
    };

/** Steps of which none is done once one has failed; the next group is. */
export interface JobGroup {
  /** 1 to 40 of [a-z0-9-]. */
  readonly id: string;
  readonly steps: readonly JobStep[];
}

/** How often a wait looks again, in seconds of the guest's clock. */
const pollSeconds = 0.01;
const maxGroups = 1_000;
const maxSteps = 200;

/**
 * The shell script that does a job; run in the guest with `out` set to the directory for what comes out. Each program's
 * streams go to files `<group>.<id>.stdout` and `.stderr`, each step's exit status to `.status`.
 * @throws FastioError USAGE for a job that makes no sense.
 */
export function jobScript(groups: readonly JobGroup[], settleOffsetNs: number): string {
  checkGroups(groups);
  return [prologue, ...groups.map((group) => groupScript(group, settleOffsetNs)), 'true', ''].join('\n');
}

/**
 * Functions the steps call. $1 is what a step is called. A program's process is a child of this shell, so its status
 * can be waited for; one that stays is killed with its group.
 */
const prologue = `
say() { echo "fastio-job: $1" >"\${console:-/dev/console}"; }

# done_with NAME STATUS: false when it failed.
done_with() {
	echo "$2" >"$out/$1.status"
	return "$2"
}

# ended NAME PID
ended() {
	wait "$2"
	done_with "$1" $?
}

# await PID POLLS: false when it still runs after so many polls.
await() {
	local polls=$2
	while kill -0 "$1" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; do
		[ $polls -gt 0 ] || return 1
		polls=$((polls - 1))
		sleep ${pollSeconds}
	done
}

# ready NAME PID POLLS REGEX
ready() {
	local polls=$3
	while ! grep -qE "$4" "$out/$1.stdout" 2>/dev/null; do
		if await "$2" 0; then
			echo "fastio-job: ended before it was ready" >>"$out/$1.stderr"
			ended "$1" "$2"
			return 1
		fi
		if [ $polls -eq 0 ]; then
			echo "fastio-job: not ready in time" >>"$out/$1.stderr"
			return 1
		fi
		polls=$((polls - 1))
		sleep ${pollSeconds}
	done
}

# halt NAME PID SIGNAL POLLS
halt() {
	if await "$2" 0; then
		echo "fastio-job: had ended before it was stopped" >>"$out/$1.stderr"
		ended "$1" "$2"
		return 1
	fi
	kill "-$3" "$2"
	if ! await "$2" "$4"; then
		echo "fastio-job: did not end in time" >>"$out/$1.stderr"
		kill -KILL "$2"
	fi
	ended "$1" "$2"
}

# finish NAME PID: the status of one that ended by itself is worth keeping; it may be why a later step failed.
finish() {
	if await "$2" 0; then
		ended "$1" "$2"
	else
		kill -KILL "$2" 2>/dev/null
	fi
}
`;

function groupScript({ id, steps }: JobGroup, settleOffsetNs: number): string {
  const pids = new Map(steps.flatMap((step) => (step.kind === 'start' ? [[step.id, pidName(step.id)]] : [])));
  const ports = steps.flatMap((step) =>
    step.kind === 'start' && step.portGroup !== undefined ? [[step.id, portName(step.id)] as const] : [],
  );
  const names = new Map([
    ...[...pids].map(([step, name]) => [`pid:${step}`, name] as const),
    ...ports.map(([step, name]) => [`port:${step}`, name] as const),
  ]);
  const lines = steps.map((step) => `\t${stepScript(id, step, names, settleOffsetNs)} || return 1`);
  // What was started and not stopped, because a step in between failed.
  const leftovers = [...pids].map(
    ([step, name]) =>
      `[ -z "\${${name}:-}" ] || [ -e "$out/${id}.${step}.status" ] || finish ${id}.${step} "$${name}"`,
  );
  const forget = [...pids.values()].map((name) => `unset ${name}`);
  return ['', 'group() {', ...lines, '}', ...forget, 'group', ...leftovers, 'wait', 'sync'].join('\n');
}

function stepScript(
  group: string,
  step: JobStep,
  names: ReadonlyMap<string, string>,
  settleOffsetNs: number,
): string {
  const polls = (ms: number): number => Math.ceil(ms / 1_000 / pollSeconds);
  if (step.kind === 'settle') return `/fastio-job/vclock settle ${step.offsetNs ?? settleOffsetNs}`;
  const name = `${group}.${step.id}`;
  if (step.kind === 'stop') {
    const pid = `"$${pidName(step.id)}"`;
    return `{ say 'stop ${name}'; halt ${name} ${pid} ${step.signal} ${polls(step.timeoutMs)}; }`;
  }
  const env = Object.entries(step.env ?? {}).map(([key, value]) => quote(`${key}=${value}`));
  const argv = step.argv.map((word) => expand(word, names));
  const command = ['env', ...env, ...argv].join(' ');
  const streams = `</dev/null >"$out/${name}.stdout" 2>"$out/${name}.stderr"`;
  if (step.kind === 'run') {
    // Nothing may poll while it runs: it could be a measurement.
    const limit = `timeout -s KILL ${Math.ceil(step.timeoutMs / 1_000)}`;
    return `{ say 'run ${name}'; ${limit} ${command} ${streams}; done_with ${name} $?; }`;
  }
  const pid = pidName(step.id);
  const wait = `ready ${name} "$${pid}" ${polls(step.readyMs)} ${quote(step.ready)}`;
  const port = step.portGroup === undefined ? '' : ` && ${portScript(name, step)}`;
  return `{ say 'start ${name}'; ${command} ${streams} & ${pid}=$!; ${wait}${port}; }`;
}

/** Takes the port out of the line that said that the server is ready; a control character keeps off the text's own. */
function portScript(name: string, { id, ready, portGroup }: Extract<JobStep, { kind: 'start' }>): string {
  const take = quote(`s\u0001${ready}\u0001\\${portGroup ?? 0}\u0001p`);
  return `${portName(id)}=$(grep -oE ${quote(ready)} "$out/${name}.stdout" | head -n 1 | sed -nE ${take})`;
}

const pidName = (id: string): string => `pid_${id.replaceAll('-', '_')}`;
const portName = (id: string): string => `port_${id.replaceAll('-', '_')}`;

/** A word of argv in the shell's quotes, with the pids and ports it asks for. */
function expand(word: string, names: ReadonlyMap<string, string>): string {
  if (word === '') return "''";
  return word
    .split(/(\{(?:pid|port):[a-z0-9-]+\})/)
    .filter((part) => part !== '')
    .map((part) => {
      const what = /^\{((?:pid|port):.*)\}$/.exec(part)?.[1];
      if (what === undefined) return quote(part);
      const name = names.get(what);
      if (name === undefined) {
        throw usage(
          `"${word}": found no start step "${what.replace(/^.*:/, '')}" in the same group that has one`,
        );
      }
      return `"$${name}"`;
    })
    .join('');
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function checkGroups(groups: readonly JobGroup[]): void {
  const isName = (id: string): boolean => /^[a-z0-9-]{1,40}$/.test(id);
  if (groups.length < 1 || groups.length > maxGroups) {
    throw usage(`a job: found ${groups.length} groups, expected 1 to ${maxGroups}`);
  }
  const seen = new Set<string>();
  for (const { id, steps } of groups) {
    if (!isName(id) || seen.has(id)) throw usage(`group "${id}": expected a name of its own of [a-z0-9-]`);
    seen.add(id);
    if (steps.length < 1 || steps.length > maxSteps) {
      throw usage(`group "${id}": found ${steps.length} steps, expected 1 to ${maxSteps}`);
    }
    const started = new Set<string>();
    const ids = new Set<string>();
    for (const step of steps) {
      if (step.kind === 'settle') continue;
      if (!isName(step.id)) throw usage(`step "${step.id}": expected a name of [a-z0-9-]`);
      if (step.kind === 'stop') {
        if (!started.delete(step.id)) throw usage(`stop of "${step.id}": nothing of that name runs`);
        continue;
      }
      if (ids.has(step.id)) throw usage(`step "${step.id}": found twice in group "${id}"`);
      ids.add(step.id);
      if (step.kind === 'start') started.add(step.id);
      if (step.argv.length === 0) throw usage(`step "${step.id}": found no program to run`);
      const nul = [...step.argv, ...Object.values(step.env ?? {})].find((word) => word.includes('\0'));
      if (nul !== undefined) throw usage(`step "${step.id}": found a NUL in an argument`);
    }
  }
}

function usage(message: string): FastioError {
  return new FastioError('USAGE', message, 'Correct the job.');
}
