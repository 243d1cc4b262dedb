import { join } from 'node:path';
import { z } from 'zod';
import { Manifest } from '../bundle/manifest.js';
import { writeAtomically } from '../run/store.js';
import { ClaimsFile } from './claims.js';
import { suitesDir } from './load.js';
import { Results } from './results.js';
import { Suite } from './suite.js';

/** The JSON Schema of each kind of file, as committed beside the suites for editors and other programs. */
export const jsonSchemas = {
  'suite.schema.json': { schema: Suite, io: 'input', title: 'A fastio suite' },
  'claims.schema.json': { schema: ClaimsFile, io: 'input', title: 'Claims to reproduce' },
  'results.schema.json': { schema: Results, io: 'output', title: 'Results of a fastio run' },
  'bundle.schema.json': { schema: Manifest, io: 'output', title: 'Manifest of a bundled fastio run' },
} as const;
export type JsonSchemaName = keyof typeof jsonSchemas;

/** The text of a committed schema file. */
export function jsonSchemaText(name: JsonSchemaName): string {
  const { schema, io, title } = jsonSchemas[name];
  const generated = z.toJSONSchema(schema, { io, target: 'draft-2020-12' });
  return `${JSON.stringify({ $id: name, title, ...generated }, undefined, 2)}\n`;
}

/** Writes all of them; `npm run schemas`. */
export async function writeJsonSchemas(directory: string = suitesDir): Promise<void> {
  for (const name of Object.keys(jsonSchemas) as JsonSchemaName[]) {
    await writeAtomically(join(directory, name), jsonSchemaText(name));
  }
}
