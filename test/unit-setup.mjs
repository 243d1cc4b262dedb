import { jest } from '@jest/globals';

// jest ignores testTimeout inside `projects`.
jest.setTimeout(30_000);
