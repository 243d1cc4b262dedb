import { createHash } from 'node:crypto';
import { View, parse } from 'vega';
import { compile } from 'vega-lite';
import type { TopLevelSpec } from 'vega-lite';

/** Servers get these in the order of their suite; the colour follows the server from chart to chart. */
export const seriesColours = Array.from({ length: 8 }, (_, index) => `var(--s${index + 1})`);
export const ink = 'var(--ink)';
export const mutedInk = 'var(--muted)';
const hairline = 'var(--line)';

/** Colours of charts, for pages and for SVG files that stand alone. A test holds them to a contrast of 3:1 with the page. */
export const chartColours = {
  light: {
    ink: '#1b1f24',
    muted: '#59636e',
    line: '#dfe3e8',
    s: ['#2a78d6', '#d1570f', '#0f8a5f', '#a3529e', '#b98900', '#5a4fcf', '#c2385a', '#4f6b7a'],
  },
  dark: {
    ink: '#e8ebef',
    muted: '#a0a9b4',
    line: '#363c45',
    s: ['#5b9df0', '#f0813f', '#35b98a', '#cf86ca', '#e0b13a', '#9a92f2', '#f07393', '#93afbe'],
  },
} as const;

const font = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

const config: NonNullable<TopLevelSpec['config']> = {
  background: 'transparent',
  font,
  view: { stroke: null },
  axis: {
    labelColor: mutedInk,
    titleColor: mutedInk,
    titleFontWeight: 'normal',
    labelFontSize: 11,
    titleFontSize: 11,
    gridColor: hairline,
    domainColor: hairline,
    tickColor: hairline,
    domain: false,
    ticks: false,
    labelPadding: 6,
    labelLimit: 320,
    titlePadding: 10,
  },
  axisX: { grid: false, domain: true },
  legend: {
    labelColor: ink,
    labelFontSize: 11.5,
    title: null,
    orient: 'top',
    direction: 'horizontal',
    columns: 6,
    labelLimit: 400,
    symbolType: 'circle',
    symbolSize: 70,
    symbolOpacity: 1,
    symbolStrokeWidth: 0,
    rowPadding: 4,
    columnPadding: 14,
    offset: 12,
  },
  text: { color: ink, font, fontSize: 11 },
};

/** Draws a chart. The same specification gives the same bytes. */
export async function drawSvg(spec: TopLevelSpec): Promise<string> {
  const view = new View(parse(compile({ ...spec, config }).spec), { renderer: 'none' });
  try {
    return ownIds(await view.toSVG(), spec);
  } finally {
    view.finalize();
  }
}

/** Vega counts clip paths over all charts of a process; several on one page need names that do not meet. */
function ownIds(svg: string, spec: TopLevelSpec): string {
  const prefix = createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 8);
  const names = new Map<string, string>();
  return svg.replace(/(id="|url\(#)(clip\d+)/g, (_, before: string, id: string) => {
    const name = names.get(id) ?? `c${prefix}-${names.size}`;
    names.set(id, name);
    return `${before}${name}`;
  });
}

/** CSS custom properties for both colour schemes. */
export function colourCss(selector: string): string {
  const block = (scheme: keyof typeof chartColours): string => {
    const { ink: text, muted, line, s } = chartColours[scheme];
    const series = s.map((colour, index) => `--s${index + 1}:${colour}`).join(';');
    return `--ink:${text};--muted:${muted};--line:${line};${series}`;
  };
  return `${selector}{${block('light')}}@media (prefers-color-scheme:dark){${selector}{${block('dark')}}}`;
}

/** A chart as a file of its own: it brings its colours along. */
export function standaloneSvg(svg: string): string {
  return svg.replace(/^(<svg[^>]*>)/, `$1<style>${colourCss(':root')}</style>`);
}
