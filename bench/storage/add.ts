/** Section `add`: the way of the body of an Add request into the log, and what it costs the event loop. */
import { APPEND_KEYS, type AppendKey, type EngineName, type Figures, PARSE_KEYS } from './command.js';
import { medianRatio, medians } from './figures.js';
import type { Options } from './options.js';
import {
  atLeast,
  atMost,
  fixed,
  type Placed,
  printHeading,
  printTable,
  printTarget,
  progress,
  type Target,
  whole,
} from './report.js';
import { column, inRounds, Processes, type Rounds } from './rounds.js';

const SHAPES = [
  { items: 50, bytes: 100 },
  { items: 50, bytes: 1024 },
  { items: 1, bytes: 100 },
] as const;

type AddKey = AppendKey | 'parse_item_ns';
const ADD_KEYS: readonly AddKey[] = [...APPEND_KEYS, 'parse_item_ns'];

export interface AddRow {
  readonly engine: EngineName;
  readonly items: number;
  readonly bytes: number;
  readonly items_per_s: number;
  readonly loop_ns_per_item: number;
  /** Of these, the scan of the body: measured apart, in a plain loop. */
  readonly parse_ns_per_item: number;
  readonly thread_cpu_ns_per_item: number;
  readonly process_cpu_ns_per_item: number;
}

/** How many times less event-loop time the native engine takes; null without both engines. */
export interface AddCell {
  readonly items: number;
  readonly bytes: number;
  readonly portable_over_native: number | null;
}

export interface AddReport {
  readonly rows: readonly AddRow[];
  readonly cells: readonly AddCell[];
  readonly targets: readonly Target[];
}

export async function runAdd(options: Options, folder: string): Promise<AddReport> {
  const { engines, seconds, rounds, profile } = options;
  return Processes.with(folder, engines, profile, async (processes) => {
    progress('add: preparing the logs');
    await processes.openPrimed(options.segment_bytes);
    const rows: AddRow[] = [];
    const cells: AddCell[] = [];
    for (const shape of SHAPES) {
      progress(`add: ${shape.items} x ${shape.bytes} B`);
      const measured = await inRounds<EngineName, AddKey>(rounds, engines, async (engine) => {
        const one = processes.of(engine);
        const { item_ns } = await one.ask({ task: 'parse', ...shape, seconds: seconds / 5 }, PARSE_KEYS);
        return { ...(await one.ask({ task: 'add', ...shape, seconds }, APPEND_KEYS)), parse_item_ns: item_ns };
      });
      for (const engine of engines) rows.push(rowOf(engine, shape, medians(measured.get(engine) ?? [], ADD_KEYS)));
      cells.push({ ...shape, portable_over_native: savingOf(engines, measured) });
    }
    await processes.close();
    const report = { rows, cells, targets: targetsOf(rows, cells) };
    print(report);
    return report;
  });
}

function rowOf(engine: EngineName, shape: (typeof SHAPES)[number], figures: Figures<AddKey>): AddRow {
  const { items } = shape;
  return {
    engine,
    ...shape,
    items_per_s: figures.per_s * items,
    loop_ns_per_item: figures.loop_ns / items,
    parse_ns_per_item: figures.parse_item_ns,
    thread_cpu_ns_per_item: figures.thread_cpu_ns / items,
    process_cpu_ns_per_item: figures.process_cpu_ns / items,
  };
}

function savingOf(engines: readonly EngineName[], measured: Rounds<AddKey>): number | null {
  if (engines.length < 2) return null;
  return medianRatio(column(measured, 'portable', 'loop_ns'), column(measured, 'native', 'loop_ns'));
}

function targetsOf(rows: readonly AddRow[], cells: readonly AddCell[]): Target[] {
  const savings = (items: number): Placed[] =>
    cells.flatMap(({ portable_over_native, ...cell }) =>
      portable_over_native !== null && cell.items === items && cell.bytes === 100
        ? [{ where: shapeOf(cell), value: portable_over_native }]
        : [],
    );
  const own = rows
    .filter(({ engine, items, bytes }) => engine === 'native' && items === 50 && bytes === 100)
    .map((row) => ({ where: shapeOf(row), value: row.loop_ns_per_item }));
  return [
    atLeast('native >= 8x less event-loop time than portable, 50 x 100 B', 8, savings(50)),
    atMost('native <= 70 ns of the event loop an item, 50 x 100 B', 70, own, 0),
    atLeast('native >= 1.0x portable with one item a request', 1, savings(1)),
  ];
}

function shapeOf({ items, bytes }: { readonly items: number; readonly bytes: number }): string {
  return `${items} x ${bytes} B`;
}

function print({ rows, cells, targets }: AddReport): void {
  printHeading('Whole way of an Add body into the log: scan, framing, checksum, append, index; per item.');
  printTable(
    ['engine', 'items x bytes', 'items/s', 'loop ns', 'of it scan ns', 'thread CPU ns', 'all threads ns'],
    rows.map((row) => [
      row.engine,
      shapeOf(row),
      whole(row.items_per_s),
      fixed(row.loop_ns_per_item, 1),
      fixed(row.parse_ns_per_item, 1),
      fixed(row.thread_cpu_ns_per_item, 1),
      fixed(row.process_cpu_ns_per_item, 1),
    ]),
  );
  console.log();
  for (const cell of cells) {
    const ratio = fixed(cell.portable_over_native ?? undefined, 2);
    console.log(`loop portable/native, ${shapeOf(cell)}: ${ratio}`);
  }
  for (const target of targets) printTarget(target);
}
