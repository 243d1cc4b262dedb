import { writeJsonSchemas } from './json-schema.js';

// Run by `npm run schemas` after the schemas changed.
await writeJsonSchemas();
