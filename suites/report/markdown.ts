import { applicationBusy, cpusUsed } from '../judge/samples.js';
import type { Point, Results } from '../schema/results.js';
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
import { conditionText, duration, number, percent, showsApplication, withInterval } from './format.js';

/** The report as a CI job's summary. */
export function markdownReport(results: Results): string {
  const title = `# fastio: ${results.suites.map(({ name }) => name).join(', ')} (${results.profile})`;
  const parts = [
    title,
    `**${headline(results)}**`,
    findings(results)
      .map((line) => `- ${escape(line)}`)
      .join('\n'),
    claimsTable(results),
    ...conditions(results.points).map(pointsTable),
    failuresList(results),
    `## What this cannot say\n\n${limitations(results)
      .map((line) => `- ${escape(line)}`)
      .join('\n')}`,
    `## What was run\n\n${facts(results)
      .map(([key, text]) => `- ${key}: ${escape(text)}`)
      .join('\n')}\n\n\`\`\`\n${reproduceCommand(results)}\n\`\`\``,
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function claimsTable({ claims }: Results): string {
  if (claims.length === 0) return '';
  const rows = claims.map(({ title, published, measured, low, high, verdict, reason }) => {
    const figure =
      measured === null || low === null || high === null
        ? '–'
        : `${number(measured)} (${number(low)} to ${number(high)})`;
    return `| ${escape(title)} | ${number(published)} | ${figure} | **${verdict}** | ${escape(reason)} |`;
  });
  return [
    `## ${kindText(claims)} figures`,
    '',
    `| claim | ${kindText(claims).toLowerCase()} | measured | verdict | why |`,
    '|---|--:|--:|---|---|',
    ...rows,
  ].join('\n');
}

function pointsTable(points: readonly Point[]): string {
  const [first] = points;
  if (first === undefined) return '';
  const withApplication = showsApplication(points);
  const rows = points.map((point) => {
    const { summary, status, reasons } = point;
    const used = cpusUsed(point);
    const cells = [
      escape(label(point)),
      withInterval(summary?.requestsPerSecond ?? null),
      used === null ? '–' : used.toFixed(2),
      ...(withApplication ? [percent(applicationBusy(point))] : []),
      withInterval(summary?.requestsPerSecondPerCpu ?? null),
      withInterval(summary?.ratioToBaseline ?? null, (value) => value.toFixed(2)),
      latency(summary?.p50Ns?.median),
      latency(summary?.p99Ns?.median),
      latency(summary?.p999Ns?.median),
      status === 'ok' ? reasons.map(escape).join('; ') : `**${status}**: ${escape(reasons[0] ?? '')}`,
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    `## ${conditionText(first)}`,
    '',
    `| server | requests/s | CPUs used |${withApplication ? ' application busy |' : ''} requests/s per CPU | ratio | p50 | p99 | p99.9 | note |`,
    `|---|--:|--:|${withApplication ? '--:|' : ''}--:|--:|--:|--:|--:|---|`,
    ...rows,
  ].join('\n');
}

function latency(ns: number | undefined): string {
  return ns === undefined ? '–' : duration(ns);
}

function failuresList({ failures }: Results): string {
  if (failures.length === 0) return '';
  const items = failures.map(
    ({ run, message, log }) =>
      `<details><summary>${escape(run)}: ${escape(message)}</summary>\n\n\`\`\`\n${log.join('\n').replaceAll('```', "'''")}\n\`\`\`\n</details>`,
  );
  return `## Failures\n\n${items.join('\n')}`;
}

/** Text from servers and kernels must not become markup. */
function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('|', '\\|')
    .replaceAll('\n', ' ');
}
