import { beforeAll, expect, it } from '@jest/globals';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fakeGuests } from '../../test/suites/fake-vm.js';
import { fixture, scratch } from '../../test/suites/runs.js';
import { runSuites } from '../run/run-suites.js';
import { loadResults } from '../schema/load.js';
import type { Results } from '../schema/results.js';
import { drawCharts } from './charts.js';
import { pointsCsv, samplesCsv } from './csv.js';
import { findings, headline, limitations } from './findings.js';
import { duration, elapsed, interval, number } from './format.js';
import { htmlReport } from './html.js';
import { markdownReport } from './markdown.js';
import { chartColours } from './svg.js';
import type { WrittenReport } from './write.js';
import { writeReport } from './write.js';

let directory: string;
let results: Results;
let written: WrittenReport;
let html: string;

beforeAll(async () => {
  const { options } = fixture(fakeGuests({}, 0.02), { clock: 'virtual' });
  ({ results } = await runSuites(options));
  directory = options.out;
  written = await writeReport(directory);
  html = readFileSync(written.html, 'utf8');
});

it('writes a page that needs nothing else', () => {
  expect(html).toMatch(/^<!doctype html>/);
  expect(html).not.toMatch(/<script|<link|@import|src=|url\((?!#)/);
  expect(html.replaceAll('http://www.w3.org/', '')).not.toMatch(/https?:/);
  expect(html).toContain('prefers-color-scheme:dark');
});

it('says what was run, what was found, and what it cannot say', () => {
  for (const title of ['What was run', 'Published figures', 'All points', 'What this cannot say', 'Words']) {
    expect(html).toContain(`<h2>${title}</h2>`);
  }
  expect(html).toContain('--seed 7');
  expect(html).toContain('Virtual time, modelled');
  expect(html).toContain('Closed loop: each connection waits');
  expect(headline(results)).toBe('Of 1 published figure that can be judged, 1 is reproduced and 0 are not.');
  expect(findings(results)[0]).toMatch(
    /^With 25 connections, 64 B: FastIO ×2 carried most, 1[45]\d,\d00 requests\/s/,
  );
});

it('has every point in the table, with its figure, and marks the baseline', () => {
  for (const { title, workers, summary } of results.points) {
    expect(html).toContain(`${title} ×${workers}`);
    expect(html).toContain(number(summary?.requestsPerSecond.median ?? 0));
  }
  expect(html.match(/<tr class="base">/g)).toHaveLength(2);
});

it('draws charts of requests, requests per CPU and latency, with the published line', async () => {
  const charts = await drawCharts(results);

  expect(charts.map(({ name }) => name)).toEqual(
    ['small-c25-b64', 'small-c50-b64'].flatMap((key) => [
      `${key}-requests`,
      `${key}-per-cpu`,
      `${key}-latency`,
      `${key}-instructions`,
    ]),
  );
  expect(charts[0]?.svg).toContain('published');
  expect(charts[4]?.svg).not.toContain('published');
  expect(charts.every(({ svg }) => svg.startsWith('<svg') && !svg.includes('NaN'))).toBe(true);
});

it('draws instructions per request and latency against load when there are such figures', async () => {
  const [first] = results.points;
  if (first?.summary == null) throw new Error('the fixture has no first point');
  const instructionsPerRequest = { median: 12_400, low: 12_300, high: 12_500, n: 2, level: 'boot' as const };
  const counted = { ...first, summary: { ...first.summary, instructionsPerRequest } };
  const sent = [1, 2, 3].map((step) => ({
    ...first,
    id: `open${step}`,
    rate: step * 10_000,
    loop: 'open' as const,
  }));

  const charts = await drawCharts({ ...results, points: [counted, ...sent] });

  expect(charts.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['small-c25-b64-instructions', 'small-c25-b64-load']),
  );
});

it('draws the same bytes twice', async () => {
  const [once, twice] = [await drawCharts(results), await drawCharts(results)];

  expect(once).toEqual(twice);
});

it('writes SVG files that carry their colours, CSV and Markdown', () => {
  expect(written.svg.every((file) => readFileSync(file, 'utf8').includes('<style>:root{--ink:'))).toBe(true);
  const markdown = readFileSync(written.markdown, 'utf8');
  expect(markdown).toContain('| claim | published | measured | verdict | why |');
  expect(markdown).toContain('**PASS**');
  const lines = readFileSync(written.csv[0] ?? '', 'utf8')
    .trimEnd()
    .split('\n');
  expect(lines).toHaveLength(1 + results.points.length);
  expect(new Set(lines.map((line) => line.split(',').length)).size).toBe(1);
  expect(samplesCsv(results).trimEnd().split('\n')).toHaveLength(1 + 4 * results.points.length);
});

it('lets no text from a guest become markup', () => {
  const evil = '<img src=x onerror=alert(1)> | `a` "b"';
  const failed: Results = {
    ...results,
    points: results.points.map((point) => ({ ...point, status: 'failed' as const, reasons: [evil] })),
    failures: [
      {
        run: 'r',
        point: 'p',
        boot: 0,
        process: 0,
        code: 'TIMEOUT',
        message: evil,
        kernel: true,
        log: [evil],
      },
    ],
  };

  expect(htmlReport(failed, [])).not.toContain('<img');
  // Within a fence text is text.
  expect(markdownReport(failed).replaceAll(/```[^]*?```/g, '')).not.toContain('<img');
  expect(pointsCsv(failed)).toContain('"<img src=x onerror=alert(1)> | `a` ""b"""');
  expect(htmlReport(failed, [])).toContain('<h2>Failures</h2>');
});

it('warns above all figures when nothing may be compared', async () => {
  const { options } = fixture(fakeGuests());
  const { results: emulated } = await runSuites(options);

  const page = htmlReport(emulated, []);

  expect(page).toContain('These figures may not be set beside published ones: this run was emulated');
  expect(headline(emulated)).toBe('None of the 1 published figure can be judged by this run.');
  expect(limitations(emulated).join(' ')).toContain('measures the emulator');
});

it('says that a run is unfinished', () => {
  const half = { ...results, progress: { ...results.progress, finished: 3, complete: false } };

  expect(headline(half)).toBe('Unfinished: 3 of 20 server starts were measured.');
});

it('reports only on runs', async () => {
  const empty = scratch();

  await expect(writeReport(empty)).rejects.toMatchObject({ code: 'INPUT_INVALID' });
  expect(existsSync(join(empty, 'report.html'))).toBe(false);
});

it('reports what is on disk, whoever wrote it', async () => {
  const copy = scratch();
  const rest = await loadResults(directory);
  writeFileSync(join(copy, 'results.json'), JSON.stringify({ ...rest, claims: [] }));

  const { markdown } = await writeReport(copy);

  expect(readFileSync(markdown, 'utf8')).toContain('no claim is about them');
});

/** Relative luminance and contrast as WCAG 2 defines them. */
function contrast(a: string, b: string): number {
  const luminance = (hex: string): number => {
    const [r = 0, g = 0, blue = 0] = [1, 3, 5].map((at) => {
      const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
      return channel <= 0.03928 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * blue;
  };
  const [x, y] = [luminance(a), luminance(b)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}

it.each([
  ['light', '#ffffff'],
  ['dark', '#14171b'],
] as const)('has colours that can be told from a %s page', (scheme, page) => {
  const { ink, muted, s } = chartColours[scheme];

  expect(s.every((colour) => contrast(colour, page) >= 3)).toBe(true);
  expect(Math.min(contrast(ink, page), contrast(muted, page))).toBeGreaterThanOrEqual(4.5);
  expect(new Set(s).size).toBe(8);
});

it('writes numbers, durations and intervals as people read them', () => {
  expect([1.0632, 12.34, 123.4, 1_234, 69_812, 393_052].map(number)).toEqual([
    '1.06',
    '12.3',
    '123',
    '1,234',
    '69,810',
    '393,100',
  ]);
  expect([999, 1_500, 689_000, 2_500_000, 3e9].map(duration)).toEqual([
    '999 ns',
    '1.50 µs',
    '689 µs',
    '2.50 ms',
    '3.00 s',
  ]);
  expect([59, 61, 7_500].map(elapsed)).toEqual(['59 s', '1 min 1 s', '2 h 5 min']);
  const figure = { median: 2, low: 1_000, high: 2_000, n: 3, level: 'boot' as const };
  expect(interval(figure, duration)).toBe('1.00 to 2.00 µs');
  expect(interval({ ...figure, level: 'none' })).toBe('');
});
