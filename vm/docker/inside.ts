/**
 * The one process a container is started for. It is told what to do on standard input, and ends when that closes: the
 * engine closes it when the process that started the container is gone, however it went.
 *
 *	node inside.js        (standard input: an Order as one line of JSON, then the guest's channel)
 */
import { spawn } from 'node:child_process';
import { connect } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { run } from '../exec.js';
import { guestDirectory, socketName } from '../machine/directory.js';
import { encodeError } from '../machine/plan.js';
import { bootQemu } from '../machine/qemu-vm.js';
import { FastioError } from '../errors.js';
import { readLine, type Answer, type Order } from './order.js';

/** How long a program has to clean up after its starter is gone, in milliseconds. */
const cleanUpMs = 20_000;

const stop = new AbortController();
const gone = new FastioError(
  'INTERRUPTED',
  'the process that started the container is gone',
  'Start it again.',
);
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    stop.abort(gone);
  });
}

const order = JSON.parse(await readLine(process.stdin)) as Order;
process.exit(order.kind === 'boot' ? await boot(order) : await runProgram(order));

/** Boots a guest and joins our streams to its keeper's until one of them ends. */
async function boot({ spec, options }: Extract<Order, { kind: 'boot' }>): Promise<number> {
  const answer = (message: Answer): void => {
    process.stderr.write(`${JSON.stringify(message)}\n`);
  };
  try {
    await using vm = await bootQemu(spec, {
      ...options,
      signal: stop.signal,
      report: (event) => {
        answer({ kind: 'progress', event });
      },
    });
    const keeper = connect(join(guestDirectory(options.name), socketName));
    answer({ kind: 'booted', info: vm.info });
    await new Promise<void>((resolve) => {
      keeper.on('error', () => undefined).once('close', resolve);
      process.stdin.once('end', resolve);
      stop.signal.addEventListener('abort', () => {
        resolve();
      });
      process.stdin.pipe(keeper);
      keeper.pipe(process.stdout);
    });
    return 0;
  } catch (error) {
    answer({ kind: 'failed', error: encodeError(error) });
    return 1;
  }
}

/** Runs a program to its end; asks it to end when nobody waits for it any more. */
async function runProgram({ argv, owner }: Extract<Order, { kind: 'run' }>): Promise<number> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const end = (): void => {
    child.kill('SIGINT');
    setTimeout(() => child.kill('SIGKILL'), cleanUpMs).unref();
  };
  process.stdin.once('end', end).resume();
  stop.signal.addEventListener('abort', end);
  const status = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
  const { uid, gid, paths } = owner;
  if (uid !== 0 && paths.length > 0) await run(['chown', '-R', `${uid}:${gid}`, '--', ...paths]);
  return status;
}
