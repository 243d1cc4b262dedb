import { resultsHash } from '../judge/results.js';
import type { ClaimResult, Figure, Noise, Point, Results } from '../schema/results.js';
import { conditionKey } from '../schema/results.js';
import { conditionText, elapsed, levelText, number, plural } from './format.js';

/** What a person who reads nothing else should know. */
export function headline(results: Results): string {
  const { claims, progress } = results;
  const count = (verdict: string): number => claims.filter((claim) => claim.verdict === verdict).length;
  if (!progress.complete) {
    return `Unfinished: ${progress.finished} of ${progress.runs} server starts were measured.`;
  }
  if (claims.length === 0)
    return `${plural(results.points.length, 'point')} measured; no claim is about them.`;
  const [pass, fail, none] = [count('PASS'), count('FAIL'), count('NOT COMPARABLE')];
  const kind = kindText(claims);
  const figure = `${kind.toLowerCase()} figure`;
  if (pass + fail === 0) return `None of the ${plural(claims.length, figure)} can be judged by this run.`;
  const rest = none === 0 ? '' : ` ${none} cannot be judged by this run.`;
  return `Of ${plural(pass + fail, figure)} that can be judged, ${pass} ${pass === 1 ? 'is' : 'are'} ${kind === 'Target' ? 'reached' : 'reproduced'} and ${fail} ${fail === 1 ? 'is' : 'are'} not.${rest}`;
}

/** What the figures are that claims are about, as a heading. */
export function kindText(claims: readonly ClaimResult[]): string {
  const kinds = new Set(claims.map(({ kind }) => kind));
  return kinds.size > 1 ? 'Claimed' : kinds.has('target') ? 'Target' : 'Published';
}

/** Sentences about what was found, most important first. */
export function findings(results: Results): readonly string[] {
  const usable = results.points.filter(({ status, summary }) => status === 'ok' && summary !== null);
  const lines: string[] = [];
  for (const points of conditions(usable)) {
    const base = points.find(({ baseline }) => baseline);
    const [best] = points.toSorted((a, b) => rps(b) - rps(a));
    if (base === undefined || best === undefined) continue;
    const where = conditionText(base);
    const ratio = best.summary?.ratioToBaseline;
    const fastest =
      best === base || ratio === undefined || ratio === null
        ? `nothing carried more than ${label(base)}, ${number(rps(base))} requests/s`
        : `${label(best)} carried most, ${number(rps(best))} requests/s or ${ratioText(ratio)} times ${label(base)}`;
    lines.push(`With ${where}: ${fastest}.`);
    const [thrifty] = points.toSorted((a, b) => perCpu(b) - perCpu(a));
    if (thrifty !== undefined && perCpu(thrifty) > 0) {
      const own = thrifty.summary?.perCpuRatioToBaseline;
      const compared =
        thrifty === base || own === undefined || own === null
          ? ''
          : `, ${ratioText(own)} times ${label(base)}`;
      lines.push(
        `Per CPU used, ${label(thrifty)} carried most: ${number(perCpu(thrifty))} requests/s${compared}.`,
      );
    }
  }
  const bad = results.points.filter(({ status }) => status === 'failed' || status === 'invalid');
  for (const [reason, points] of byReason(bad)) {
    const names = [...new Set(points.map(label))];
    const shown = names.length > 4 ? [...names.slice(0, 3), `${names.length - 3} more`] : names;
    lines.push(`${points[0]?.status === 'failed' ? 'Failed' : 'Invalid'}: ${shown.join(', ')}: ${reason}.`);
  }
  return lines;
}

/** Points grouped by why they do not count; numbers in a reason differ from point to point and are no difference. */
function byReason(points: readonly Point[]): ReadonlyMap<string, readonly Point[]> {
  const groups = new Map<string, { readonly reason: string; readonly points: Point[] }>();
  for (const point of points) {
    const reason = point.reasons[0] ?? point.status;
    const key = `${point.status} ${reason.replace(/\d+(\.\d+)?/g, '#')}`;
    const group = groups.get(key) ?? { reason, points: [] };
    group.points.push(point);
    groups.set(key, group);
  }
  return new Map([...groups.values()].map((group) => [group.reason, group.points]));
}

/** What the figures of this run must not be used for. */
export function limitations(results: Results): readonly string[] {
  const { clock, points, noise, claims, accel, fingerprint } = results;
  const lines: string[] = [];
  if (clock.name === 'virtual') {
    lines.push(
      `Virtual time, modelled: each simulated CPU has a clock of its own, advanced by the instructions it runs and the costs of the profile “${clock.costProfile ?? 'unknown'}”${clock.description === null ? '' : ` (${clock.description})`}. It knows no caches, memory bandwidth, branch prediction or out-of-order execution. It ranks designs; it does not say what a given processor would reach.`,
    );
  } else if (accel === 'tcg') {
    lines.push(
      'The guest was emulated (TCG) and timed by the wall clock. That measures the emulator as much as the servers: the figures show that everything works, and may not be set beside published ones.',
    );
  }
  const guestCpus = Number(fingerprint.guest['cpus'] ?? 0);
  const hostCpus = Number(fingerprint.host['cpus'] ?? 0);
  if (clock.name === 'wall' && guestCpus > hostCpus) {
    lines.push(
      `The guest had ${guestCpus} CPUs on a host with ${hostCpus}. Threads that poll took time from each other, so scaling cannot be read off.`,
    );
  }
  if (points.some(({ rate }) => rate === null)) {
    lines.push(
      'Closed loop: each connection waits for its reply before it sends the next request. A slow server is therefore asked less, and the latencies say nothing about the tail under a given load.',
    );
  }
  if (noise.length > 0) lines.push(noiseText(noise));
  const few = lowest(points);
  if (few !== undefined) lines.push(few);
  if (claims.some(({ kind }) => kind === 'published')) {
    lines.push(
      'The published figures came without spread, message size or latency. The tolerances are this project’s, written down before anything was measured.',
    );
  }
  lines.push(
    'Everything ran over the loopback interface of one guest; a network card and its driver were not part of it.',
  );
  return lines;
}

/** Label and text, for the facts at the top. */
export function facts(results: Results): readonly (readonly [label: string, text: string])[] {
  const { fingerprint, clock, progress, host } = results;
  const guest = fingerprint.guest;
  const time =
    clock.name === 'virtual' ? `virtual (cost profile ${clock.costProfile ?? 'unknown'})` : 'wall clock';
  return [
    ['Suites', results.suites.map(({ name }) => name).join(', ')],
    [
      'Profile',
      `${results.profile}${results.shard === null ? '' : `, shard ${results.shard.index} of ${results.shard.count}`}`,
    ],
    ['Time', time],
    [
      'Guest',
      `${results.arch}, Linux ${String(guest['kernelRelease'] ?? results.kernel)}, ${String(guest['cpus'] ?? '?')} CPUs`,
    ],
    [
      'Accelerator',
      `${results.accel ?? 'none yet'}${results.accelReason === null || results.accelReason === '' ? '' : `: ${results.accelReason}`}`,
    ],
    [
      'Host',
      `${String(fingerprint.host['cpuModel'] ?? 'unknown')}, ${String(fingerprint.host['cpus'] ?? '?')} CPUs`,
    ],
    [
      'Measured',
      `${plural(results.points.length, 'point')}, ${progress.finished} of ${progress.runs} server starts, ${elapsed(host.elapsedSeconds)}${progress.resumed ? ', resumed' : ''}`,
    ],
    ['Seed', String(results.seed)],
    ['Started', host.startedAt],
    ...(clock.name === 'virtual' ? [['Results', `sha256 ${resultsHash(results)}`] as const] : []),
  ];
}

/** The command that makes the same run again. */
export function reproduceCommand(results: Results): string {
  const { suites, profile, clock, arch, kernel, seed, forced, accelAsked } = results;
  const how =
    clock.name === 'virtual'
      ? `--clock virtual --costs ${clock.costProfile ?? ''}`
      : `--clock wall --accel ${accelAsked}`;
  return [
    'fastio run',
    ...suites.map(({ file }) => file),
    `--profile ${profile} ${how} --arch ${arch} --kernel ${kernel} --seed ${seed}`,
    ...(forced ? ['--force'] : []),
  ].join(' ');
}

/** `FastIO, hybrid ×3`. */
export function label({ title, workers }: Point): string {
  return `${title} ×${workers}`;
}

/** Points grouped by what they share a baseline by. */
export function conditions(points: readonly Point[]): readonly (readonly Point[])[] {
  const groups = new Map<string, Point[]>();
  for (const point of points) {
    const key = `${point.suite}/${conditionKey(point)}`;
    groups.set(key, [...(groups.get(key) ?? []), point]);
  }
  return [...groups.values()];
}

const rps = (point: Point): number => point.summary?.requestsPerSecond.median ?? 0;
const perCpu = (point: Point): number => point.summary?.requestsPerSecondPerCpu?.median ?? 0;

function ratioText(figure: Figure): string {
  const range = figure.level === 'none' ? '' : ` (${figure.low.toFixed(2)} to ${figure.high.toFixed(2)})`;
  return `${figure.median.toFixed(2)}${range}`;
}

function noiseText(noise: readonly Noise[]): string {
  const low = Math.min(...noise.map(({ ratio }) => ratio.low));
  const high = Math.max(...noise.map(({ ratio }) => ratio.high));
  return `The baseline measured against itself gave ratios from ${low.toFixed(3)} to ${high.toFixed(3)}: differences within that band are noise.`;
}

function lowest(points: readonly Point[]): string | undefined {
  const figures = points.flatMap(({ summary }) => (summary === null ? [] : [summary.requestsPerSecond]));
  const [least] = figures.toSorted((a, b) => a.n - b.n);
  if (least === undefined) return undefined;
  const advice =
    least.level === 'boot' && least.n >= 5 ? '' : ' That is few; the profile “paper” takes five boots.';
  return `Intervals are 95 % bootstrap intervals over ${levelText(least)}.${advice}`;
}
