/** What a program that prints KTAP said. */
export interface KtapReport {
  /** From the plan line; undefined when there was none. */
  readonly planned: number | undefined;
  readonly passed: number;
  readonly skipped: readonly string[];
  /** Each failed test with the diagnostics before it. */
  readonly failed: readonly string[];
}

const result = /^(not )?ok (\d+)(?: - | )?([^#]*)(?:# (SKIP.*))?/;

/** Reads KTAP line by line; lines that are none, such as a kernel's, are left alone. */
export function parseKtap(text: string): KtapReport {
  let planned: number | undefined;
  let passed = 0;
  const skipped: string[] = [];
  const failed: string[] = [];
  let diagnostics: string[] = [];
  for (const line of text.split('\n')) {
    const plan = /^1\.\.(\d+)/.exec(line);
    if (plan !== null) planned = Number(plan[1]);
    if (line.startsWith('# ')) diagnostics.push(line);
    const match = result.exec(line);
    if (match === null) continue;
    const name = (match[3] ?? '').trim();
    if (match[1] !== undefined) failed.push([name, ...diagnostics].join('\n'));
    else if (match[4] !== undefined) skipped.push(`${name}: ${match[4]}`);
    else passed += 1;
    diagnostics = [];
  }
  return { planned, passed, skipped, failed };
}
