import { afterEach, expect, it } from '@jest/globals';
import { createServer } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectEngine, explainEngine } from './engine.js';

const before = process.env['DOCKER_HOST'];
afterEach(() => {
  if (before === undefined) delete process.env['DOCKER_HOST'];
  else process.env['DOCKER_HOST'] = before;
});

it('says where it looked when no engine is there', async () => {
  process.env['DOCKER_HOST'] = 'unix:///nonexistent/engine.sock';

  await expect(connectEngine(new AbortController().signal)).rejects.toMatchObject({
    code: 'ENGINE_MISSING',
    message: expect.stringContaining('/nonexistent/engine.sock') as unknown,
  });
});

it('takes no for an answer from something that is not an engine', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'fastio-engine-'));
  const path = join(directory, 'sock');
  const server = createServer((socket) =>
    socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno'),
  );
  await new Promise<void>((resolve) => server.listen(path, resolve));
  process.env['DOCKER_HOST'] = `unix://${path}`;

  await expect(connectEngine(new AbortController().signal)).rejects.toMatchObject({
    code: 'ENGINE_REFUSED',
    message: expect.stringContaining('no') as unknown,
  });

  server.close();
  rmSync(directory, { recursive: true });
});

it.each([
  ['connect EACCES /var/run/docker.sock', 'EACCES', 'ENGINE_REFUSED', /usermod -aG docker/],
  ['connect ECONNREFUSED', 'ECONNREFUSED', 'ENGINE_MISSING', /Start Docker/],
  ['write /x: no space left on device', undefined, 'DISK_FULL', /docker system prune/],
  [
    'error gathering device information while adding custom device "/dev/kvm"',
    undefined,
    'ENGINE_REFUSED',
    /--accel tcg/,
  ],
])('has a remedy for "%s"', (message, errno, code, remedy) => {
  const explained = explainEngine(Object.assign(new Error(message), { code: errno }));

  expect(explained.code).toBe(code);
  expect(explained.remedy).toMatch(remedy);
});
