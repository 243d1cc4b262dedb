import { applicationBusy, cpusUsed } from '../judge/samples.js';
import type { Figure, Point, Results } from '../schema/results.js';
import type { Chart } from './charts.js';
import {
  conditions,
  facts,
  findings,
  headline,
  kindText,
  label,
  limitations,
  reproduceCommand,
} from './findings.js';
import { conditionText, duration, interval, number, percent, showsApplication } from './format.js';
import { style } from './style.js';

/** The whole report as one file that needs nothing else. */
export function htmlReport(results: Results, charts: readonly Chart[]): string {
  const names = results.suites.map(({ name }) => name).join(', ');
  const body = [
    `<h1>fastio: ${escape(names)}</h1>`,
    `<p class="sub">${results.suites.map(({ purpose }) => escape(purpose)).join(' ')}</p>`,
    `<p class="lead">${escape(headline(results))}</p>`,
    notice(results),
    list(findings(results)),
    ...charts.slice(0, 1).map(figureOf),
    section('What was run', factsList(results) + runAgain(results)),
    results.claims.length === 0 ? '' : section('Published figures', claimsTable(results)),
    charts.length < 2 ? '' : section('More charts', charts.slice(1).map(figureOf).join('\n')),
    section('All points', pointTables(results)),
    results.failures.length === 0 ? '' : section('Failures', failures(results)),
    section('What this cannot say', list(limitations(results))),
    section('Words', words),
    section('Fingerprint', fingerprint(results)),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastio: ${escape(names)} (${escape(results.profile)})</title>
<style>${style}</style>
</head>
<body>
<main>
${body.filter((part) => part !== '').join('\n')}
</main>
</body>
</html>
`;
}

/** Text from servers and kernels must not become markup. */
function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

function section(title: string, content: string): string {
  return `<section>\n<h2>${title}</h2>\n${content}\n</section>`;
}

function list(lines: readonly string[]): string {
  return lines.length === 0 ? '' : `<ul>${lines.map((line) => `<li>${escape(line)}</li>`).join('\n')}</ul>`;
}

/** Why nothing here may be set beside published figures, before anybody does. */
function notice({ points, clock, accel }: Results): string {
  const measured = points.filter(({ summary }) => summary !== null);
  if (clock.name === 'virtual') {
    return '<p class="notice">Virtual time, modelled. Ratios may be set beside published ones; see “What this cannot say”.</p>';
  }
  if (measured.length === 0 || measured.some(({ comparable }) => comparable)) return '';
  const why = accel === 'tcg' ? 'this run was emulated' : 'see the notes of the points';
  return `<p class="notice">These figures may not be set beside published ones: ${why}. They show that everything works.</p>`;
}

function factsList(results: Results): string {
  const rows = facts(results).map(([key, text]) => `<div><dt>${key}</dt><dd>${escape(text)}</dd></div>`);
  return `<dl class="facts">${rows.join('\n')}</dl>`;
}

function runAgain(results: Results): string {
  return `<p class="small" style="margin-top:14px">The same run again:</p><pre>${escape(reproduceCommand(results))}</pre>`;
}

function claimsTable({ claims }: Results): string {
  const rows = claims.map((claim) => {
    const { verdict, measured, low, high, published, tolerance, direction, noise } = claim;
    const band =
      noise === null || !/ratio/i.test(claim.metric)
        ? ''
        : `<small>noise ${noise.low.toFixed(3)} to ${noise.high.toFixed(3)}</small>`;
    const figure =
      measured === null || low === null || high === null
        ? '–'
        : `${number(measured)}<small>${number(low)} to ${number(high)}</small>`;
    const sign = { 'at-least': '−', 'at-most': '+', within: '±' }[direction];
    const allowed = `${sign} ${(tolerance * 100).toFixed(0)} %`;
    return `<tr><td>${escape(claim.title)}<small>${escape(claim.source)}</small></td>
<td class="n">${number(published)}<small>${allowed}</small></td><td class="n">${figure}${band}</td>
<td><span class="chip ${verdict.replace(' ', '-')}">${verdict}</span><small>${escape(claim.reason)}</small></td></tr>`;
  });
  return `<div class="scroll"><table><thead><tr><th>Claim</th><th class="n">${kindText(claims)}</th><th class="n">Measured</th><th>Verdict</th></tr></thead>
<tbody>${rows.join('\n')}</tbody></table></div>`;
}

function figureOf({ title, caption, svg }: Chart): string {
  return `<figure><h3>${escape(title)}</h3><figcaption>${escape(caption)}</figcaption>${svg}</figure>`;
}

function pointTables({ points }: Results): string {
  return conditions(points)
    .map((group) => {
      const [first] = group;
      return first === undefined ? '' : `<h3>${escape(conditionText(first))}</h3>${pointTable(group)}`;
    })
    .join('\n');
}

function pointTable(points: readonly Point[]): string {
  const hasInstructions = points.some(({ summary }) => summary?.instructionsPerRequest);
  const withApplication = showsApplication(points);
  const columns = [
    '<th>Server</th>',
    ...['Requests/s', 'CPUs used', ...(withApplication ? ['Application busy'] : [])].map(head),
    ...['Per CPU', 'Ratio', 'Per-CPU ratio'].map(head),
    ...['p50', 'p99', 'p99.9', ...(hasInstructions ? ['Instructions'] : []), 'Generator'].map(head),
    '<th>Note</th>',
  ];
  const rows = points.map((point) => {
    const { summary, status, reasons } = point;
    const used = cpusUsed(point);
    const busy = Math.max(...point.samples.map(({ generatorBusy }) => generatorBusy ?? Number.NaN));
    const cells = [
      `<td class="name">${escape(label(point))}</td>`,
      cell(summary?.requestsPerSecond),
      `<td class="n">${used === null ? '–' : used.toFixed(2)}</td>`,
      ...(withApplication ? [`<td class="n">${percent(applicationBusy(point))}</td>`] : []),
      cell(summary?.requestsPerSecondPerCpu),
      cell(summary?.ratioToBaseline, (value) => value.toFixed(2)),
      cell(summary?.perCpuRatioToBaseline, (value) => value.toFixed(2)),
      cell(summary?.p50Ns, duration),
      cell(summary?.p99Ns, duration),
      cell(summary?.p999Ns, duration),
      ...(hasInstructions ? [cell(summary?.instructionsPerRequest)] : []),
      `<td class="n">${percent(Number.isFinite(busy) ? busy : null)}</td>`,
      `<td class="note">${status === 'ok' ? '' : `<span class="chip ${status}">${status}</span>`}<small>${reasons.map(escape).join('<br>')}</small></td>`,
    ];
    return `<tr${point.baseline ? ' class="base"' : ''}>${cells.join('')}</tr>`;
  });
  return `<div class="scroll"><table><thead><tr>${columns.join('')}</tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`;
}

const head = (title: string): string => `<th class="n">${title}</th>`;

function cell(figure: Figure | null | undefined, show: (value: number) => string = number): string {
  if (figure === null || figure === undefined) return '<td class="n">–</td>';
  return `<td class="n">${show(figure.median)}<small>${interval(figure, show)}</small></td>`;
}

function failures(results: Results): string {
  return results.failures
    .map(
      ({ point, boot, process, code, message, kernel, log }) =>
        `<details><summary>${escape(point)}, boot ${boot}, start ${process}: ${escape(message)}
<span class="chip failed">${kernel ? 'kernel' : escape(code)}</span></summary><pre>${escape(log.join('\n'))}</pre></details>`,
    )
    .join('\n');
}

const words = `<dl class="words">
<dt>Workers</dt><dd>Threads of epoll and io_uring; kernel workers of FastIO, which has its application thread besides.</dd>
<dt>Per CPU</dt><dd>Requests per second divided by the CPUs used: by the CPU time of all threads of the server, kernel workers and spinning threads among them. 1 CPU is one CPU busy all the time.</dd>
<dt>Ratio</dt><dd>Requests/s divided by those of the baseline (shaded row) at the same connections and message, measured in the same run in random order.</dd>
<dt>Interval</dt><dd>Below each figure: 95 % bootstrap interval over boots, or over the highest level that was repeated.</dd>
<dt>Generator</dt><dd>How busy the busiest thread of the load generator was. Above 90 % the point is invalid: the generator may have been what was measured.</dd>
<dt>NOT COMPARABLE</dt><dd>The figure was measured, or could be, but not under conditions in which it would confirm or refute the claim.</dd>
</dl>`;

function fingerprint(results: Results): string {
  const { host, guest, artifacts } = results.fingerprint;
  const rows = (facts: Readonly<Record<string, string | number>>): string =>
    Object.entries(facts)
      .map(([key, value]) => `<tr><td>${escape(key)}</td><td><code>${escape(String(value))}</code></td></tr>`)
      .join('\n');
  const table = (title: string, content: Readonly<Record<string, string | number>>): string =>
    `<details><summary>${title}</summary><div class="scroll"><table><tbody>${rows(content)}</tbody></table></div></details>`;
  return [
    `<p class="small">Lock files ${escape(results.lockHash.slice(0, 16))} · plan ${escape(results.planHash.slice(0, 16))} · fastio ${escape(results.tool.version)}</p>`,
    table('Guest', guest),
    table('Host', host),
    table('Programs and modules (sha256)', artifacts),
    `<details><summary>fastio.conf as used</summary><pre>${escape(results.conf.text)}</pre></details>`,
  ].join('\n');
}
