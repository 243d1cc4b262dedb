/** One line of a benchmark: what was measured, how often, and the limit it must keep. */
export interface Measurement {
  readonly name: string;
  readonly unit: string;
  readonly samples: readonly number[];
  readonly limit: number;
}

/** The middle sample, or the mean of the middle two. */
export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** A table with median, spread and verdict of each measurement. */
export function table(measurements: readonly Measurement[]): string {
  const rows = measurements.map(({ name, unit, samples, limit }) => {
    const value = median(samples);
    const spread = `${Math.min(...samples).toFixed(2)}..${Math.max(...samples).toFixed(2)}`;
    return [
      name,
      `${value.toFixed(3)} ${unit}`,
      spread,
      String(samples.length),
      `<= ${limit}`,
      value <= limit ? 'ok' : 'OVER',
    ];
  });
  const head = ['what', 'median', 'range', 'n', 'limit', ''];
  const widths = head.map((_, column) =>
    Math.max(...[head, ...rows].map((row) => (row[column] ?? '').length)),
  );
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
