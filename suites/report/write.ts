import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from '../run/store.js';
import { loadResults } from '../schema/load.js';
import { drawCharts } from './charts.js';
import { pointsCsv, samplesCsv } from './csv.js';
import { htmlReport } from './html.js';
import { markdownReport } from './markdown.js';
import { standaloneSvg } from './svg.js';

export interface WrittenReport {
  readonly html: string;
  readonly markdown: string;
  readonly csv: readonly string[];
  readonly svg: readonly string[];
}

/**
 * Writes report.html, report.md, points.csv, samples.csv and charts/*.svg into a run's directory, from its results.json.
 * @returns their paths.
 * @throws FastioError INPUT_INVALID when the directory is not a run.
 */
export async function writeReport(directory: string): Promise<WrittenReport> {
  const results = await loadResults(directory);
  const charts = await drawCharts(results);
  const written: WrittenReport = {
    html: join(directory, 'report.html'),
    markdown: join(directory, 'report.md'),
    csv: [join(directory, 'points.csv'), join(directory, 'samples.csv')],
    svg: charts.map(({ name }) => join(directory, 'charts', `${name}.svg`)),
  };
  await writeAtomically(written.html, htmlReport(results, charts));
  await writeAtomically(written.markdown, markdownReport(results));
  const [points = '', samples = ''] = written.csv;
  await writeAtomically(points, pointsCsv(results));
  await writeAtomically(samples, samplesCsv(results));
  await mkdir(join(directory, 'charts'), { recursive: true });
  for (const { name, svg } of charts) {
    await writeAtomically(join(directory, 'charts', `${name}.svg`), standaloneSvg(svg));
  }
  return written;
}
