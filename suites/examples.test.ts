import { afterAll, expect, it } from '@jest/globals';
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { scratch } from '../test/suites/runs.js';
import { run } from '../vm/exec.js';
import { projectRoot } from '../vm/paths.js';
import { planRuns } from './plan/planner.js';
import { fill } from './plan/template.js';
import { loadClaims, loadSuite } from './schema/load.js';

const examples = join(projectRoot, 'docs/examples');
const started: ChildProcess[] = [];
afterAll(() => {
  for (const child of started) child.kill('SIGKILL');
});

it.each(['mine.yaml', 'mine-claims.yaml'])('shows %s in the documentation as it is', (name) => {
  const text = readFileSync(join(projectRoot, 'docs/adding.md'), 'utf8');
  const shown = text.split(`<!-- docs/examples/${name} -->\n\n\`\`\`yaml\n`)[1]?.split('```')[0];

  expect(shown?.trimEnd()).toBe(readFileSync(join(examples, name), 'utf8').trimEnd());
});

it('plans the example, with its claim about a point that is measured', async () => {
  const suite = await loadSuite(join(examples, 'mine.yaml'));

  const { claims } = await loadClaims(join(examples, 'mine-claims.yaml'), [suite]);
  const plan = planRuns([suite], {
    profile: 'paper',
    clock: 'wall',
    accel: 'auto',
    arch: 'arm64',
    kernel: '6.12',
    seed: 1,
    force: false,
    costs: 'neoverse-n1',
  });

  expect(claims).toHaveLength(1);
  expect(plan.blocks).toHaveLength(4);
});

it('builds the example’s server with its own command, finds its ready line, and gets every byte back', async () => {
  const { suite, file } = await loadSuite(join(examples, 'mine.yaml'));
  const server = suite.servers['mine'];
  if (server?.source === undefined || server.build === undefined)
    throw new Error('the example has no sources');
  const directory = scratch();
  cpSync(resolve(dirname(file), server.source), directory, { recursive: true });
  const built = await run(['sh', '-ec', server.build], { cwd: directory, env: { ...process.env, CC: 'cc' } });
  expect(built.stderr).toBe('');
  expect(built.status).toBe(0);

  const values = {
    port: 0,
    workers: 1,
    threads: 4,
    connections: 4,
    messageBytes: 64,
    serverCpus: '1',
    conf: '',
  };
  const [program = '', ...args] = fill<'server'>(server.run, values);
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', 'pipe', 'inherit'] });
  started.push(child);
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const port = Number(new RegExp(server.ready).exec(line)?.groups?.['port']);
  const socket = connect(port, '127.0.0.1');
  const message = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));
  socket.end(message);
  const echoed: Buffer[] = [];
  for await (const chunk of socket) echoed.push(chunk as Buffer);

  expect(Buffer.concat(echoed).equals(message)).toBe(true);
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([null, 'SIGTERM']);
});
