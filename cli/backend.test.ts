import { expect, it } from '@jest/globals';
import { withoutBackend } from './backend.js';

it.each([
  [['run', 'echo', '--backend', 'docker', '--seed', '7']],
  [['run', '--backend=docker', 'echo', '--seed', '7']],
  [['run', 'echo', '--seed', '7']],
])('passes everything on but the back end: %j', (argv) => {
  expect(withoutBackend(argv)).toEqual(['run', 'echo', '--seed', '7']);
});
