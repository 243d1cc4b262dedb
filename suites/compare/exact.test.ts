import { expect, it } from '@jest/globals';
import type { Point, Results } from '../schema/results.js';
import { exactDifferences } from './exact.js';

/** A run with points of one figure each; only what is compared. */
function runOf(figures: Readonly<Record<string, number>>): Results {
  const points = Object.entries(figures).map(([id, median]) => ({
    id,
    title: `not compared ${Math.random()}`,
    status: 'ok',
    samples: [],
    errors: 0,
    summary: { requestsPerSecond: { median, low: median, high: median } },
  })) as unknown as Point[];
  return { points } as unknown as Results;
}

it('finds nothing between equal runs, whatever they are called', () => {
  const outcome = exactDifferences(runOf({ a: 1, b: 2 }), runOf({ a: 1, b: 2 }));

  expect(outcome).toEqual({ compared: 2, onlyInA: [], onlyInB: [], differences: [], failed: false });
});

it('finds the least difference, by point and figure', () => {
  const { differences, failed } = exactDifferences(runOf({ a: 82_896 }), runOf({ a: 82_896.000_000_1 }));

  expect(failed).toBe(true);
  expect(differences[0]).toEqual({
    point: 'a',
    figure: 'summary.requestsPerSecond.median',
    a: '82896',
    b: '82896.0000001',
  });
});

it('fails for a point that is gone, not for one that is new', () => {
  const gone = exactDifferences(runOf({ a: 1, b: 2 }), runOf({ a: 1 }));
  const fresh = exactDifferences(runOf({ a: 1 }), runOf({ a: 1, b: 2 }));

  expect(gone).toMatchObject({ compared: 1, onlyInA: ['b'], failed: true });
  expect(fresh).toMatchObject({ compared: 1, onlyInB: ['b'], failed: false });
});
