/** Section `memory`: what a million entries cost in memory. */
import { join } from 'node:path';
import { type EngineName, type Figures, MEMORY_KEYS, type MemoryKey } from './command.js';
import type { Options } from './options.js';
import { MeasuredProcess } from './process.js';
import { atMost, fixed, printHeading, printTable, printTarget, progress, type Target } from './report.js';

const ENTRY_BYTES = 8;
/** The first part of the entries is not counted: with it comes what every log needs once. */
const FIRST_SHARE = 0.2;

export interface MemoryRow {
  readonly engine: EngineName;
  readonly entries: number;
  /** As `stats()` says, of all entries. */
  readonly index_bytes_per_entry: number;
  /** Growth of the process from a fifth of the entries to all of them, after a collection of garbage. */
  readonly rss_mib_per_million: number;
  readonly heap_mib_per_million: number;
  readonly external_mib_per_million: number;
}

export interface MemoryReport {
  readonly rows: readonly MemoryRow[];
  readonly targets: readonly Target[];
}

export async function runMemory(options: Options, folder: string): Promise<MemoryReport> {
  const rows: MemoryRow[] = [];
  for (const engine of options.engines) {
    progress(`memory: ${engine}, ${options.entries_million} million entries`);
    rows.push(await measureMemory(options, engine, join(folder, engine)));
  }
  const of = (name: EngineName) =>
    rows
      .filter(({ engine }) => engine === name)
      .map(({ index_bytes_per_entry }) => ({ where: name, value: index_bytes_per_entry }));
  const targets = [
    atMost('native index <= 16 bytes an entry', 16, of('native'), 1),
    atMost('portable index <= 24 bytes an entry', 24, of('portable'), 1),
  ];
  print(rows, targets);
  return { rows, targets };
}

async function measureMemory(options: Options, engine: EngineName, folder: string): Promise<MemoryRow> {
  const entries = Math.round(options.entries_million * 1e6);
  const first = Math.round(entries * FIRST_SHARE);
  const one = new MeasuredProcess(options.profile);
  try {
    await one.ask({ task: 'open', subject: engine, folder, segment_bytes: options.segment_bytes, sync: false });
    await one.ask({ task: 'fill', records: first, bytes: ENTRY_BYTES });
    const before = await one.ask({ task: 'memory' }, MEMORY_KEYS);
    await one.ask({ task: 'fill', records: entries - first, bytes: ENTRY_BYTES });
    const after = await one.ask({ task: 'memory' }, MEMORY_KEYS);
    await one.ask({ task: 'close' });
    return rowOf(engine, entries, entries - first, before, after);
  } finally {
    await one.end();
  }
}

function rowOf(
  engine: EngineName,
  entries: number,
  added: number,
  before: Figures<MemoryKey>,
  after: Figures<MemoryKey>,
): MemoryRow {
  const growth = (key: MemoryKey): number => ((after[key] - before[key]) / 2 ** 20 / added) * 1e6;
  return {
    engine,
    entries,
    index_bytes_per_entry: after.index_bytes / entries,
    rss_mib_per_million: growth('rss_bytes'),
    heap_mib_per_million: growth('heap_bytes'),
    external_mib_per_million: growth('external_bytes'),
  };
}

function print(rows: readonly MemoryRow[], targets: readonly Target[]): void {
  const entries = (rows[0]?.entries ?? 0) / 1e6;
  printHeading(`Memory of ${entries} million entries of ${ENTRY_BYTES} bytes; growth per million in MiB.`);
  printTable(
    ['engine', 'index bytes/entry', 'RSS', 'heap', 'external'],
    rows.map((row) => [
      row.engine,
      fixed(row.index_bytes_per_entry, 1),
      fixed(row.rss_mib_per_million, 1),
      fixed(row.heap_mib_per_million, 1),
      fixed(row.external_mib_per_million, 1),
    ]),
  );
  for (const target of targets) printTarget(target);
}
