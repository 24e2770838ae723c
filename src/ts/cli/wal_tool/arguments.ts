/** The command line of `wal_tool`. */
import { parseArgs } from 'node:util';
import { usages } from './usage.js';

/** What keeps the program from doing what it was asked to: its message says what to do instead. */
export class UsageError extends Error {}

const BODY_FORMS = ['none', 'hex', 'base64', 'text'] as const;
export type BodyForm = (typeof BODY_FORMS)[number];

const KINDS = ['entry', 'state', 'all'] as const;

/** Which records `dump` prints, and how. */
export interface DumpOptions {
  readonly bodies: BodyForm;
  readonly kind: (typeof KINDS)[number];
  /** Null: all groups. */
  readonly group: number | null;
  readonly from: number;
  readonly through: number;
  readonly decode: boolean;
}

export type Command =
  | { readonly name: 'help'; readonly text: string }
  | { readonly name: 'inspect' | 'verify'; readonly folder: string; readonly json: boolean }
  | { readonly name: 'dump'; readonly folder: string; readonly options: DumpOptions }
  | { readonly name: 'repair'; readonly folder: string; readonly write: boolean };

const GROUP_MAX = 0xffff_ffff;

const help = { help: { type: 'boolean', short: 'h' } } as const;
const options = {
  inspect: { ...help, json: { type: 'boolean' } },
  verify: { ...help, json: { type: 'boolean' } },
  dump: {
    ...help,
    bodies: { type: 'string' },
    kind: { type: 'string' },
    group: { type: 'string' },
    from: { type: 'string' },
    through: { type: 'string' },
    decode: { type: 'boolean' },
  },
  repair: { ...help, write: { type: 'boolean' } },
} as const;

/** @throws UsageError */
export function parseCommand(args: readonly string[]): Command {
  const [name, ...rest] = args;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    return { name: 'help', text: usages.tool };
  }
  if (name !== 'inspect' && name !== 'verify' && name !== 'dump' && name !== 'repair') {
    throw new UsageError(`${JSON.stringify(name)} is no command: use inspect, verify, dump or repair`);
  }
  const advice = `see wal_tool ${name} --help`;
  const { values, positionals } = parsed(rest, options[name], advice);
  if (values['help'] === true) return { name: 'help', text: usages[name] };
  const [folder, extra] = positionals;
  if (folder === undefined) throw new UsageError(`no folder is given; ${advice}`);
  if (extra !== undefined) throw new UsageError(`one folder at a time, not also ${JSON.stringify(extra)}; ${advice}`);
  if (name === 'dump') return { name, folder, options: dumpOptions(values, advice) };
  if (name === 'repair') return { name, folder, write: values['write'] === true };
  return { name, folder, json: values['json'] === true };
}

type Values = Readonly<Record<string, unknown>>;

function parsed(
  args: readonly string[],
  known: (typeof options)[keyof typeof options],
  advice: string,
): { readonly values: Values; readonly positionals: readonly string[] } {
  try {
    return parseArgs({ args: [...args], options: known, allowPositionals: true });
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    // The first sentence says what is wrong.
    throw new UsageError(`${cause.message.split(/\.\s|\n/)[0]}; ${advice}`);
  }
}

function dumpOptions(values: Values, advice: string): DumpOptions {
  const from = integer(values, 'from', Number.MAX_SAFE_INTEGER, advice) ?? 0;
  const through = integer(values, 'through', Number.MAX_SAFE_INTEGER, advice) ?? Number.MAX_SAFE_INTEGER;
  if (from > through) throw new UsageError(`--from ${from} is above --through ${through}: nothing lies between`);
  return {
    bodies: choice(values, 'bodies', BODY_FORMS, 'none', advice),
    kind: choice(values, 'kind', KINDS, 'all', advice),
    group: integer(values, 'group', GROUP_MAX, advice),
    from,
    through,
    decode: values['decode'] === true,
  };
}

function integer(values: Values, option: string, max: number, advice: string): number | null {
  const text = values[option];
  if (text === undefined) return null;
  const value = typeof text === 'string' && /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  throw new UsageError(`--${option} takes an integer from 0 to ${max}, not ${JSON.stringify(text)}; ${advice}`);
}

function choice<T extends string>(values: Values, option: string, choices: readonly T[], usual: T, advice: string): T {
  const text = values[option];
  if (text === undefined) return usual;
  const found = choices.find((candidate) => candidate === text);
  if (found !== undefined) return found;
  throw new UsageError(`--${option} takes ${choices.join(', ')}, not ${JSON.stringify(text)}; ${advice}`);
}
