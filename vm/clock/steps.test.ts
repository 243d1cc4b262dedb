import { expect, it } from '@jest/globals';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../exec.js';
import { jobScript, type JobStep } from './steps.js';

/** Runs a job's script in this machine's shell; the guest's is busybox, which the guest tests cover. */
async function doJob(groups: Parameters<typeof jobScript>[0]): Promise<(name: string) => string | undefined> {
  const out = await mkdtemp(join(tmpdir(), 'fastio-steps-'));
  const result = await run(['sh', '-c', jobScript(groups, 0)], {
    env: { PATH: process.env['PATH'], out, console: '/dev/null' },
    signal: AbortSignal.timeout(30_000),
  });
  expect(result.status).toBe(0);
  const names = await readdir(out);
  const texts = new Map(
    await Promise.all(
      names.map(async (name) => [name, (await readFile(join(out, name), 'utf8')).trimEnd()] as const),
    ),
  );
  await rm(out, { recursive: true });
  return (name) => texts.get(name);
}

const sh = (script: string): readonly string[] => ['sh', '-c', script];
const runStep = (id: string, script: string, timeoutMs = 10_000): JobStep => ({
  kind: 'run',
  id,
  argv: sh(script),
  timeoutMs,
});
const server = (id: string, script: string, readyMs = 10_000): JobStep => ({
  kind: 'start',
  id,
  argv: sh(script),
  ready: '^READY',
  readyMs,
});
const stop = (id: string): JobStep => ({ kind: 'stop', id, signal: 'TERM', timeoutMs: 10_000 });

it('keeps what programs print and how they end', async () => {
  const text = await doJob([{ id: 'g', steps: [runStep('a', 'echo out; echo err >&2; exit 0')] }]);

  expect(text('g.a.stdout')).toBe('out');
  expect(text('g.a.stderr')).toBe('err');
  expect(text('g.a.status')).toBe('0');
});

it('passes arguments and settings as they are, quotes and dollars included', async () => {
  const word = `a 'b' "c" $d \`e\` *`;
  const text = await doJob([
    {
      id: 'g',
      steps: [
        { kind: 'run', id: 'a', argv: ['printf', '%s|', word, ''], timeoutMs: 5_000 },
        { kind: 'run', id: 'b', argv: sh('printf %s "$X"'), env: { X: word }, timeoutMs: 5_000 },
      ],
    },
  ]);

  expect(text('g.a.stdout')).toBe(`${word}||`);
  expect(text('g.b.stdout')).toBe(word);
});

it('waits until a server is ready, hands out its pid, and stops it', async () => {
  const text = await doJob([
    {
      id: 'g',
      steps: [
        server('one', 'trap "echo bye; exit 0" TERM; sleep 0.1; echo READY; while :; do sleep 0.01; done'),
        {
          kind: 'run',
          id: 'ask',
          argv: ['sh', '-c', 'kill -0 "$1" && echo alive', 'sh', '{pid:one}'],
          timeoutMs: 5_000,
        },
        stop('one'),
        runStep('after', 'echo after'),
      ],
    },
  ]);

  expect(text('g.ask.stdout')).toBe('alive');
  expect(text('g.one.stdout')).toBe('READY\nbye');
  expect(text('g.one.status')).toBe('0');
  expect(text('g.after.stdout')).toBe('after');
});

it('hands out the port that a server says it has', async () => {
  const serve = server('one', "echo warming up; echo 'READY port=4711 pid=9'; exec sleep 60");
  const text = await doJob([
    {
      id: 'g',
      steps: [
        { ...serve, ready: '^(READY) port=([0-9]+)', portGroup: 2 } as JobStep,
        { kind: 'run', id: 'ask', argv: ['echo', 'at:{port:one}'], timeoutMs: 5_000 },
      ],
    },
  ]);

  expect(text('g.ask.stdout')).toBe('at:4711');
});

it('keeps the status of a server that ended while a later step failed', async () => {
  const text = await doJob([
    { id: 'g', steps: [server('one', 'echo READY; exit 5'), runStep('a', 'sleep 0.5; exit 1')] },
  ]);

  expect(text('g.one.status')).toBe('5');
});

it.each([
  ['a program that fails', runStep('a', 'exit 3'), '3'],
  ['a program that takes too long', runStep('a', 'sleep 20', 1_000), '137'],
  ['a server that ends instead of serving', server('a', 'echo no >&2; exit 7'), '7'],
  ['a server that says nothing in time', server('a', 'exec sleep 20', 100), undefined],
])('gives a group up at %s, and does the next one', async (_, failing, status) => {
  const text = await doJob([
    { id: 'bad', steps: [failing, runStep('next', 'echo never')] },
    { id: 'good', steps: [runStep('b', 'echo done')] },
  ]);

  expect(text('bad.a.status')).toBe(status);
  if (failing.kind === 'start')
    expect(text('bad.a.stderr')).toMatch(/ended before it was ready|not ready in time/);
  expect(text('bad.next.status')).toBeUndefined();
  expect(text('good.b.stdout')).toBe('done');
});

it('leaves no server behind when a later step fails', async () => {
  const text = await doJob([
    { id: 'bad', steps: [server('one', 'echo "READY $$"; exec sleep 60'), runStep('a', 'exit 1')] },
    { id: 'good', steps: [runStep('b', 'echo done')] },
  ]);
  const pid = text('bad.one.stdout')?.split(' ')[1] ?? '';

  expect(pid).toMatch(/^\d+$/);
  expect(() => process.kill(Number(pid), 0)).toThrow('ESRCH');
});

it('says that a server had ended before it was stopped', async () => {
  const text = await doJob([
    {
      id: 'g',
      steps: [server('one', 'echo READY; sleep 0.3; exit 5'), runStep('a', 'sleep 1'), stop('one')],
    },
  ]);

  expect(text('g.one.stderr')).toContain('had ended before it was stopped');
  expect(text('g.one.status')).toBe('5');
});

it.each([
  ['no groups', [], /found 0 groups/],
  ['a name with a slash', [{ id: 'a/b', steps: [runStep('a', '')] }], /group "a\/b"/],
  [
    'two groups of a name',
    [
      { id: 'a', steps: [runStep('a', '')] },
      { id: 'a', steps: [runStep('a', '')] },
    ],
    /group "a"/,
  ],
  ['two steps of a name', [{ id: 'g', steps: [runStep('a', ''), runStep('a', '')] }], /"a": found twice/],
  ['a stop of nothing', [{ id: 'g', steps: [stop('one')] }], /nothing of that name runs/],
  ['a pid of nobody', [{ id: 'g', steps: [runStep('a', 'echo {pid:one}')] }], /found no start step "one"/],
  [
    'no program',
    [{ id: 'g', steps: [{ kind: 'run' as const, id: 'a', argv: [], timeoutMs: 1 }] }],
    /no program/,
  ],
])('refuses a job with %s', (_, groups, message) => {
  expect(() => jobScript(groups, 0)).toThrow(message);
});
