import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { projectRoot } from '../../vm/paths.js';

interface JobFile {
  readonly spec: {
    readonly completions: number;
    readonly template: {
      readonly spec: {
        readonly containers: readonly {
          readonly command: readonly string[];
          readonly env: readonly { readonly name: string; readonly value: string }[];
          readonly securityContext: {
            readonly capabilities: { readonly add: readonly string[]; readonly drop: readonly string[] };
          };
        }[];
      };
    };
  };
}

/** The cluster's job as deploy/job.yaml has it, and its one container. */
export function clusterJob(): {
  readonly job: JobFile;
  readonly container: JobFile['spec']['template']['spec']['containers'][number];
} {
  const text = readFileSync(join(projectRoot, 'deploy/job.yaml'), 'utf8');
  const job = parseAllDocuments(text)
    .map((document) => document.toJS() as { readonly kind: string } & JobFile)
    .find(({ kind }) => kind === 'Job');
  const container = job?.spec.template.spec.containers[0];
  if (job === undefined || container === undefined) throw new Error('deploy/job.yaml has no job');
  return { job, container };
}
