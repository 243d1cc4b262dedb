/** What `{name}` may stand for in a command, by whose command it is. */
const placeholders = {
  server: ['port', 'workers', 'threads', 'connections', 'messageBytes', 'serverCpus', 'conf'],
  load: [
    'port',
    'workers',
    'connections',
    'messageBytes',
    'rate',
    'request',
    'loadThreads',
    'loadCpus',
    'warmupMs',
    'windowMs',
    'intervals',
    'timeoutMs',
    'pid',
    'seed',
    'clockHints',
  ],
} as const;

export type CommandOwner = keyof typeof placeholders;
export type Values<Owner extends CommandOwner> = Readonly<
  Record<(typeof placeholders)[Owner][number], string | number>
>;
export type Command = string | readonly string[];

const pattern = /\{([^{}]*)\}/g;

/** A command as words: the list itself, or the text split at blanks. */
export function wordsOf(command: Command): readonly string[] {
  return typeof command === 'string' ? command.split(/\s+/).filter((word) => word !== '') : command;
}

/** One message per placeholder that the owner's commands do not have. */
export function placeholderFaults(command: Command, owner: CommandOwner): readonly string[] {
  const known: readonly string[] = placeholders[owner];
  return wordsOf(command)
    .flatMap((word) => [...word.matchAll(pattern)])
    .filter(([, name = '']) => !known.includes(name))
    .map(([text]) => `found ${text}, expected one of ${known.map((name) => `{${name}}`).join(' ')}`);
}

/** The command with its placeholders filled in. A word that becomes empty is left out. */
export function fill<Owner extends CommandOwner>(command: Command, values: Values<Owner>): readonly string[] {
  const byName = values as Readonly<Record<string, string | number | undefined>>;
  return wordsOf(command)
    .map((word) => word.replace(pattern, (text, name: string) => String(byName[name] ?? text)))
    .filter((word) => word !== '');
}
