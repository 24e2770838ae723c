/** The options of `npm run bench -- storage`. */
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { nativeAvailable } from '../../src/ts/wal/open.js';
import type { EngineName } from './command.js';

export const USAGE = `usage: npm run bench -- storage [options]

Measures both log engines side by side on this machine's disk, without network and Paxos, in rounds that take turns.

  --only NAME,...         of appends, add, reads, recovery, memory (all)
  --engines NAME,...      of native, portable (both)
  --sizes B,...           bytes of an entry in appends (128,1024,16384)
  --outstanding N,...     appends that wait at a time (1,16,256,2048)
  --seconds S             length of one measurement (1)
  --rounds N              measurements of each figure; their median is reported (3)
  --fill_mib M            size of the log in reads and recovery (1024)
  --entries_million M     entries in memory (2; 1 to 10)
  --segment_mib M         size of a segment (32)
  --folder FOLDER         where the logs are made, on the disk to be measured (the folder for temporary files)
  --json FILE             writes all figures (docs/performance.md describes them)
  --profile FOLDER        has each process write a CPU profile there`;

const SECTIONS = ['appends', 'add', 'reads', 'recovery', 'memory'] as const;
export type Section = (typeof SECTIONS)[number];

export interface Options {
  readonly help: boolean;
  readonly only: readonly Section[];
  readonly engines: readonly EngineName[];
  /** Why an engine that was asked for is left out; empty if none is. */
  readonly skipped: string;
  readonly sizes: readonly number[];
  readonly outstanding: readonly number[];
  readonly seconds: number;
  readonly rounds: number;
  readonly fill_mib: number;
  readonly entries_million: number;
  readonly segment_bytes: number;
  readonly folder: string;
  readonly json: string | null;
  readonly profile: string | null;
}

/** @throws Error that says which option is wrong */
export function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: SECTIONS.join(',') },
      engines: { type: 'string', default: 'native,portable' },
      sizes: { type: 'string', default: '128,1024,16384' },
      outstanding: { type: 'string', default: '1,16,256,2048' },
      seconds: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '3' },
      fill_mib: { type: 'string', default: '1024' },
      entries_million: { type: 'string', default: '2' },
      segment_mib: { type: 'string', default: '32' },
      folder: { type: 'string', default: tmpdir() },
      json: { type: 'string' },
      profile: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const { available, reason } = nativeAvailable();
  const asked = values.engines.split(',').map((name) => oneOf('engine', ['native', 'portable'] as const, name));
  const skipped = asked.includes('native') && !available ? reason : '';
  return {
    help: values.help,
    only: values.only.split(',').map((name) => oneOf('section', SECTIONS, name)),
    engines: asked.filter((name) => name === 'portable' || available),
    skipped,
    sizes: values.sizes.split(',').map((text) => numberIn('sizes', text, 1, 1 << 20)),
    outstanding: values.outstanding.split(',').map((text) => numberIn('outstanding', text, 1, 1 << 16)),
    seconds: numberIn('seconds', values.seconds, 0.01, 60),
    rounds: numberIn('rounds', values.rounds, 1, 100),
    fill_mib: numberIn('fill_mib', values.fill_mib, 1, 1 << 14),
    entries_million: numberIn('entries_million', values.entries_million, 0.01, 10),
    segment_bytes: Math.round(numberIn('segment_mib', values.segment_mib, 1, 1024)) * 2 ** 20,
    folder: values.folder,
    json: values.json ?? null,
    profile: values.profile ?? null,
  };
}

function oneOf<T extends string>(what: string, names: readonly T[], name: string): T {
  const found = names.find((candidate) => candidate === name);
  if (found === undefined) throw new Error(`no such ${what}: ${name} (${names.join(', ')})`);
  return found;
}

function numberIn(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!(value >= min && value <= max)) throw new Error(`--${option} is from ${min} to ${max}, not ${text}`);
  return value;
}
