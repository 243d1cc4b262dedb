import { expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../vm/paths.js';
import { parseLoadOutput } from './load-output.js';

const context = { what: 'epoll x1, window 0', serverCpus: [0] };
// Printed by echo/load against echo/epoll; the intervals' histograms are cut out.
const recorded = readFileSync(join(projectRoot, 'test/suites/samples/load.json'), 'utf8');

interface Output {
  requests: number;
  window: { elapsedNs: number };
  accounting: {
    server: { cpuNs: number; elapsedNs: number } | null;
    softirqThreads: { name: string; cpuNs: number }[];
    cpus: { stealNs: number }[];
  } | null;
  errors: Record<string, number | string | null>;
  latency: { buckets: number[] };
  version: number;
  openLoop?: { kept: boolean };
}

function changed(change: (output: Output) => void): string {
  const output = JSON.parse(recorded) as Output;
  change(output);
  return JSON.stringify(output);
}

it('reads what the generator printed in a real run', () => {
  const measured = parseLoadOutput('fastio-load', recorded, context);

  expect(measured.requests).toBe(32_905);
  expect(measured.durationNs).toBe(500_000_000);
  expect(measured.intervals).toHaveLength(10);
  expect(measured.intervals.reduce((sum, { requests }) => sum + requests, 0)).toBe(32_905);
  expect(measured.errors).toEqual({});
  expect(measured.generatorBusy).toBeCloseTo(0.504, 3);
  expect(measured.serverThreads.map(({ name }) => name)).toEqual(['echo-0', 'echo-control']);
  expect(measured.rateKept).toBeNull();
});

it('scales the server’s CPU time to the window and adds the softirq threads of its CPUs only', () => {
  const text = changed(({ accounting, window }) => {
    if (accounting?.server == null) throw new Error('the sample has no accounting');
    accounting.server.cpuNs = 600;
    accounting.server.elapsedNs = window.elapsedNs * 2;
    accounting.softirqThreads = [
      { name: 'ksoftirqd/0', cpuNs: 40 },
      { name: 'ksoftirqd/1', cpuNs: 9_000 },
    ];
  });

  const measured = parseLoadOutput('fastio-load', text, context);

  expect(measured.serverCpuNs).toBe(300);
  expect(measured.softirqNs).toBe(20);
});

it('keeps errors by kind, and tells when an offered rate was not carried', () => {
  const text = changed((output) => {
    output.errors['wrongBytes'] = 2;
    output.errors['total'] = 2;
    output.openLoop = { kept: false };
  });

  const measured = parseLoadOutput('fastio-load', text, context);

  expect(measured.errors).toEqual({ wrongBytes: 2 });
  expect(measured.rateKept).toBe(false);
});

it('does without accounting of a server that is not its own', () => {
  const none = parseLoadOutput(
    'fastio-load',
    changed((output) => (output.accounting = null)),
    context,
  );

  expect([none.serverCpuNs, none.softirqNs, none.stealShare]).toEqual([null, null, null]);
});

it.each([
  ['nothing', () => '', 'text that is not JSON'],
  ['text for people', () => 'Closed loop: 25 connections', 'text that is not JSON'],
  ['another version', () => changed((output) => (output.version = 2)), 'version:'],
  ['an empty window', () => changed(({ window }) => (window.elapsedNs = 0)), 'window.elapsedNs:'],
  [
    'half a histogram',
    () => changed(({ latency }) => latency.buckets.pop()),
    'latency.buckets: found an odd',
  ],
])('refuses %s, naming the window', (_what, text, says) => {
  const reading = (): unknown => parseLoadOutput('fastio-load', text(), context);

  expect(reading).toThrow(`epoll x1, window 0: the generator printed ${says}`);
});
