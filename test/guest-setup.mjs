import { jest } from '@jest/globals';

// A cold cache downloads packages and builds an image before the first guest test can start.
jest.setTimeout(900_000);
