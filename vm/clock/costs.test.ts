import { expect, it } from '@jest/globals';
import { costArguments, defaultCostFile, describeCosts, parseCosts, readCostProfile } from './costs.js';

const cost = '{ ns: 1, source: test }';
const good = `profiles:
  mine:
    purpose: A profile for a test, with every cost.
    cpu: neoverse-n1
    scale: 2
    lines: all
    costs:
      instruction: ${cost}
      svc: ${cost}
      eret: ${cost}
      atomic: { ns: 0, source: test }
      line: { ns: 60.5, source: test }
      wfi: ${cost}
      ipi: ${cost}
`;

it('reads every profile of the shipped file, each cost with its source', async () => {
  for (const name of ['ideal', 'neoverse-n1', 'neoverse-n1-far', 'emag']) {
    const { costs } = await readCostProfile(name);
    expect(Object.values(costs).every(({ source }) => source !== '')).toBe(true);
  }
});

it('charges nothing but instructions in the ideal profile', async () => {
  const profile = await readCostProfile('ideal');

  expect(costArguments(profile, 1024)).toEqual(['insn=1']);
});

it('hands the plugin scaled costs, and the memory that line transfers need', () => {
  const profile = parseCosts('f.yaml', good).profiles['mine'];
  if (profile === undefined) throw new Error('the profile is there');

  expect(costArguments(profile, 512)).toEqual([
    ...['insn=2', 'svc=2', 'eret=2', 'line=121', 'wfi=2', 'ipi=2'],
    ...['lines=all', 'ram=512'],
  ]);
  expect(describeCosts('mine', profile)).toMatch(
    /line 60\.5 ns \(all accesses\).*all times 2; CPU model neoverse-n1/,
  );
});

it.each([
  [
    'a negative cost',
    good.replace('svc: { ns: 1', 'svc: { ns: -1'),
    /^f\.yaml:9 .*svc\.ns: found -1, expected/,
  ],
  [
    'a cost without a source',
    good.replace('ns: 60.5, source: test', 'ns: 60.5'),
    /^f\.yaml:12 .*line.*source/,
  ],
  [
    'an unknown cost',
    good.replace('wfi:', 'wfe:'),
    /^f\.yaml:7 .*costs\.wfi: found nothing, expected object$/,
  ],
  [
    'an unknown CPU',
    good.replace('neoverse-n1', 'i486'),
    /^f\.yaml:4 .*cpu: found "i486", expected .*neoverse-n1/,
  ],
  ['a key given twice', good.replace('scale: 2', 'scale: 2\n    scale: 3'), /^f\.yaml:6 .*unique/],
  [
    'a clock that stands still',
    good.replace(`instruction: ${cost}`, 'instruction: { ns: 0, source: x }'),
    /^f\.yaml:8 /,
  ],
])('names file and line of %s', (_, text, expected) => {
  expect(() => parseCosts('f.yaml', text)).toThrow(expected);
});

it('names the profiles there are when one is not', async () => {
  await expect(readCostProfile('cray-1')).rejects.toThrow(
    `${defaultCostFile}: found no cost profile "cray-1", expected one of ideal, neoverse-n1, neoverse-n1-far, emag`,
  );
});
