/** Sections `reads` and `recovery`: one filled log in the page cache, which the engines open in turn. */
import { closeSync, fdatasyncSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type EngineName, OPEN_KEYS, type OpenKey, READ_KEYS, type ReadKey } from './command.js';
import { medianRatio, medians } from './figures.js';
import type { Options } from './options.js';
import { MeasuredProcess } from './process.js';
import { atLeast, fixed, printHeading, printTable, printTarget, progress, type Target, whole } from './report.js';
import { column, inRounds, type Rounds } from './rounds.js';

const RECORD_BYTES = 1024;
const RANGE_ENTRIES = 50;

export interface RecoveryRow {
  readonly engine: EngineName;
  readonly records: number;
  readonly bytes: number;
  /** From the call to the open log, and what the engine itself reports. */
  readonly open_ms: number;
  readonly elapsed_ms: number;
  readonly gb_per_s: number;
}

export interface ReadRow {
  readonly engine: EngineName;
  readonly range_us: number;
  readonly range_loop_us: number;
  readonly single_us: number;
  readonly single_loop_us: number;
}

export interface FilledLogReport {
  readonly recovery: { readonly rows: readonly RecoveryRow[]; readonly targets: readonly Target[] } | null;
  readonly reads: { readonly rows: readonly ReadRow[]; readonly targets: readonly Target[] } | null;
}

type SingleKey = 'single_wall_us' | 'single_loop_us';
type FilledKey = OpenKey | ReadKey | SingleKey;
const FILLED_KEYS: readonly FilledKey[] = [...OPEN_KEYS, ...READ_KEYS, 'single_wall_us', 'single_loop_us'];

export async function runFilledLog(options: Options, folder: string): Promise<FilledLogReport> {
  const { engines, rounds, seconds, segment_bytes } = options;
  const records = Math.floor((options.fill_mib * 1024 * 1024) / RECORD_BYTES);
  const log = join(folder, 'filled');
  progress(`recovery: filling ${options.fill_mib} MiB`);
  await fill(options, log, records);
  const wantsReads = options.only.includes('reads');
  const measured = await inRounds<EngineName, FilledKey>(rounds, engines, async (engine, round) => {
    progress(`recovery, reads: ${engine}, round ${round + 1}`);
    // A new process each time: what a former opening left in memory must not speed up this one.
    return withProcess(options, async (one) => {
      const opened = await one.ask(
        { task: 'open', subject: engine, folder: log, segment_bytes, sync: true },
        OPEN_KEYS,
      );
      const command = { task: 'ranges', records, seconds: wantsReads ? seconds : 0.01 } as const;
      const range = await one.ask({ ...command, entries: Math.min(RANGE_ENTRIES, records) }, READ_KEYS);
      const single = await one.ask({ ...command, entries: 1 }, READ_KEYS);
      await one.ask({ task: 'close' });
      return { ...opened, ...range, single_wall_us: single.wall_us, single_loop_us: single.loop_us };
    });
  });
  const report = {
    recovery: options.only.includes('recovery') ? recoveryOf(engines, measured) : null,
    reads: wantsReads ? readsOf(engines, measured) : null,
  };
  print(report);
  return report;
}

/** Fills the log without syncs, and then has the whole of it written, so that no writing back disturbs the reads. */
async function fill(options: Options, folder: string, records: number): Promise<void> {
  const subject = options.engines[0] ?? 'portable';
  await withProcess(options, async (one) => {
    await one.ask({ task: 'open', subject, folder, segment_bytes: options.segment_bytes, sync: false });
    await one.ask({ task: 'fill', records, bytes: RECORD_BYTES });
    await one.ask({ task: 'close' });
  });
  for (const name of readdirSync(folder).filter((candidate) => candidate.includes('.seg'))) {
    const descriptor = openSync(join(folder, name), 'r+');
    fdatasyncSync(descriptor);
    closeSync(descriptor);
  }
}

function recoveryOf(engines: readonly EngineName[], measured: Rounds<FilledKey>): FilledLogReport['recovery'] {
  const rows = engines.map((engine): RecoveryRow => {
    const { records, bytes, wall_ms, elapsed_ms } = medians(measured.get(engine) ?? [], FILLED_KEYS);
    return { engine, records, bytes, open_ms: wall_ms, elapsed_ms, gb_per_s: bytes / 1e6 / wall_ms };
  });
  const own = rows.filter(({ engine }) => engine === 'native').map((row) => ({ where: 'native', value: row.gb_per_s }));
  const speedUp = { where: 'native', value: ratioOf(measured, 'wall_ms') };
  const targets = [
    atLeast('recovery >= 8x portable', 8, engines.length < 2 ? [] : [speedUp]),
    atLeast('recovery >= 3 GB/s', 3, own),
  ];
  return { rows, targets };
}

function readsOf(engines: readonly EngineName[], measured: Rounds<FilledKey>): FilledLogReport['reads'] {
  const rows = engines.map((engine): ReadRow => {
    const { wall_us, loop_us, single_wall_us, single_loop_us } = medians(measured.get(engine) ?? [], FILLED_KEYS);
    return {
      engine,
      range_us: wall_us,
      range_loop_us: loop_us,
      single_us: single_wall_us,
      single_loop_us,
    };
  });
  const speedUp = { where: `${RANGE_ENTRIES} x ${RECORD_BYTES} B`, value: ratioOf(measured, 'wall_us') };
  return { rows, targets: [atLeast('range reads >= 4x portable', 4, engines.length < 2 ? [] : [speedUp])] };
}

/** How many times longer the portable engine takes. */
function ratioOf(measured: Rounds<FilledKey>, key: FilledKey): number {
  return medianRatio(column(measured, 'portable', key), column(measured, 'native', key));
}

function print({ recovery, reads }: FilledLogReport): void {
  if (recovery !== null) {
    printHeading('Recovery: opening a log that is in the page cache.');
    printTable(
      ['engine', 'records', 'MiB', 'open ms', 'GB/s'],
      recovery.rows.map((row) => [
        row.engine,
        whole(row.records),
        whole(row.bytes / 2 ** 20),
        whole(row.open_ms),
        fixed(row.gb_per_s, 2),
      ]),
    );
    for (const target of recovery.targets) printTarget(target);
  }
  if (reads !== null) {
    const range = `range of ${RANGE_ENTRIES} x 1 KiB, µs`;
    printHeading('Reads at random places from the page cache, checksums verified, one at a time.');
    printTable(
      ['engine', range, 'loop µs', 'single of 1 KiB, µs', 'loop µs'],
      reads.rows.map((row) => [
        row.engine,
        fixed(row.range_us, 1),
        fixed(row.range_loop_us, 1),
        fixed(row.single_us, 1),
        fixed(row.single_loop_us, 1),
      ]),
    );
    for (const target of reads.targets) printTarget(target);
  }
}

async function withProcess<T>(options: Options, use: (one: MeasuredProcess) => Promise<T>): Promise<T> {
  const one = new MeasuredProcess(options.profile);
  try {
    return await use(one);
  } finally {
    await one.end();
  }
}
