/**
 * The process that owns one guest: it started QEMU, keeps its console log, and serves any number of clients on a
 * Unix socket in the guest's directory. It lives in a session of its own, so that Ctrl-C does not reach it, and
 * ends with the process that started it (its descriptor 3 closes, however that process ends) unless that one
 * has said `release`. QEMU in turn dies with the keeper, by pdeathsig.
 *
 *	node keeper.js        (descriptor 3: the owner's stream, frames as in channel/frame.ts)
 */
import { rm } from 'node:fs/promises';
import { createServer, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { join } from 'node:path';
import { createFrameParser, encodeJson, frameType, jsonPayloadMax, type Frame } from '../channel/frame.js';
import { FastioError } from '../errors.js';
import { ownerOf, ownerToken } from '../image/owner.js';
import { socketName, writeState, type GuestState } from './directory.js';
import { startGuest, saveTemplate, type Guest } from './guest.js';
import { keepLogs } from './logs.js';
import { encodeError, type Plan } from './plan.js';
import type { QemuProcess } from './qemu-process.js';
import { endGuest } from './power.js';
import { createTransferLock } from './transfer-lock.js';
import { diagnose, watchForHangs } from './watchdog.js';

const owner = new Socket({ fd: 3, readable: true, writable: true });
const giveUp = new AbortController();
let released = false;
let leaving = false;
/** The guest was stopped as asked; only the answer to that is left to be given. */
let finished = false;
let directory: string | undefined;
let qemu: QemuProcess | undefined;

/** Ends everything at once: QEMU, the directory, this process. */
async function leave(): Promise<void> {
  if (leaving) return;
  leaving = true;
  giveUp.abort(
    new FastioError('INTERRUPTED', 'the process that started the guest is gone', 'Start it again.'),
  );
  qemu?.kill();
  await qemu?.exited;
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  process.exit(0);
}

function ownerGone(): void {
  if (!released) void leave();
}

async function serve(plan: Plan): Promise<unknown> {
  const first: GuestState = {
    name: plan.name,
    spec: plan.spec,
    state: 'starting',
    detached: false,
    keeper: ownerToken(),
    startedAtMs: Date.now(),
  };
  let state = first;
  // One after the other, so that the file never goes back in time.
  let writing = Promise.resolve();
  const update = (change: Partial<GuestState>): Promise<void> => {
    state = { ...state, ...change };
    const now = state;
    writing = writing.then(() => writeState(plan.directory, now));
    return writing;
  };
  const running = await startGuest(plan, giveUp.signal, (started) => {
    qemu = started;
    update({ qemu: ownerToken(ownerOf(started.pid)) }).catch(() => undefined);
  }).catch(async (error: unknown) => {
    await keepLogs(plan.name, plan.directory);
    throw error;
  });
  await update({ state: 'running', info: running.info });
  const clients = new Set<Duplex>();
  let announced: Promise<void> = Promise.resolve();
  const answer = createAnswers(plan, running, async () => {
    released = true;
    await update({ detached: true });
  });
  const attach = (client: Duplex): void => {
    clients.add(client);
    client.on('close', () => clients.delete(client));
    const ask = answer(client);
    running.relay.attach(client, (frame) => {
      void reply(client, frame, async (name, args) => {
        const value = await ask(name, args);
        // Whoever is told that the guest is dead has to know why first.
        await announced;
        return value;
      });
    });
    if (running.died.aborted) client.write(encodeJson(frameType.news, 0, encodeError(running.died.reason)));
  };
  running.died.addEventListener('abort', () => {
    const died = encodeError(running.died.reason);
    // The logs first: the error says where to find them.
    announced = keepLogs(plan.name, plan.directory)
      .catch(() => undefined)
      .then(() => {
        for (const client of clients) client.write(encodeJson(frameType.news, 0, died));
      });
    update({ state: 'dead', died: died.message }).catch(() => undefined);
  });
  watchForHangs(plan, running);
  await new Promise<void>((resolve, reject) => {
    const server = createServer(attach).once('error', reject);
    server.listen(join(plan.directory, socketName), resolve);
  });
  owner.off('data', onOwnerData);
  attach(owner);
  return running.info;
}

type Answer = (name: string, args: unknown) => Promise<unknown>;

/** What clients may ask besides running commands. */
function createAnswers(plan: Plan, running: Guest, release: () => Promise<void>): (client: Duplex) => Answer {
  const transfers = createTransferLock();
  return (client) => async (name, args) => {
    switch (name) {
      case 'info':
        return running.info;
      case 'trouble':
        return running.scanner.trouble((args as { since: number }).since);
      case 'consoleLines':
        return running.scanner.lastLines(200);
      case 'diagnose':
        return await diagnose(plan, running);
      case 'lockTransfer': {
        await transfers.lock(client);
        return;
      }
      case 'unlockTransfer':
        transfers.unlock(client);
        return null;
      case 'release': {
        await release();
        return;
      }
      case 'stop':
        await endGuest(plan, running);
        // The answer goes out once there is nothing left, and this process ends after it.
        await rm(plan.directory, { recursive: true, force: true });
        finished = true;
        return null;
      default:
        throw new FastioError('USAGE', `the keeper knows no call '${name}'`, 'Update every part of fastio.');
    }
  };
}

async function reply(client: Duplex, { id, payload }: Frame, answer: Answer): Promise<void> {
  let text: object;
  try {
    const { name, args } = JSON.parse(payload.toString()) as { name: string; args: unknown };
    text = { value: (await answer(name, args)) ?? null };
  } catch (error) {
    text = { error: encodeError(error) };
  }
  client.write(encodeJson(frameType.reply, id, text), () => {
    if (finished) void leave();
  });
}

/** The owner's first calls, before there is a guest. */
const parseOwner = createFrameParser((frame) => {
  if (frame.type !== frameType.call) return;
  void reply(owner, frame, async (name, args) => {
    const plan = args as Plan;
    directory = plan.directory;
    if (name === 'start') return await serve(plan);
    return await saveTemplate(plan, plan.saveTo ?? '', giveUp.signal, (started) => (qemu = started));
  });
}, jsonPayloadMax);
function onOwnerData(chunk: Buffer): void {
  parseOwner(chunk);
}

owner.on('data', onOwnerData);
owner.on('error', ownerGone);
owner.on('close', ownerGone);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void leave());
process.on('SIGHUP', () => undefined);
