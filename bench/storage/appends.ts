/** Section `appends`: how many entries become durable in a second, how long each takes, and what it costs the event loop. */
import { APPEND_KEYS, type AppendKey, type Figures, LIMIT_KEYS, type LimitKey, type Subject } from './command.js';
import { median, medianRatio, medians } from './figures.js';
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
import { column, inRounds, mediansOf, Processes, type Rounds } from './rounds.js';

export interface AppendRow extends Figures<AppendKey> {
  readonly subject: Subject;
  readonly bytes: number;
  readonly outstanding: number;
}

/** One size and number outstanding. The ratios are medians over the rounds; null without both of their sides. */
export interface AppendCell {
  readonly bytes: number;
  readonly outstanding: number;
  /** Whose batches the limit wrote: the native engine's, where it is measured. */
  readonly limit_of: Subject;
  readonly limit_appends_per_s: number;
  readonly limit_p50_us: number;
  readonly native_over_growing: number | null;
  readonly native_over_portable: number | null;
  readonly native_loop_over_portable: number | null;
  readonly rate_over_limit: number;
  readonly p50_over_limit: number;
}

export interface AppendsReport {
  readonly rows: readonly AppendRow[];
  readonly cells: readonly AppendCell[];
  readonly targets: readonly Target[];
}

/** All that was measured of one cell. */
interface Measured {
  readonly bytes: number;
  readonly outstanding: number;
  readonly lead: Subject;
  readonly rounds: Rounds<AppendKey>;
  readonly limit: readonly Figures<LimitKey>[];
}

export async function runAppends(options: Options, folder: string): Promise<AppendsReport> {
  const subjects: Subject[] = [...options.engines, 'growing'];
  return Processes.with(folder, [...subjects, 'limit'], options.profile, async (processes) => {
    progress('appends: preparing the logs');
    await processes.openPrimed(options.segment_bytes);
    const rows: AppendRow[] = [];
    const cells: AppendCell[] = [];
    for (const bytes of options.sizes) {
      for (const outstanding of options.outstanding) {
        progress(`appends: ${bytes} B, ${outstanding} outstanding`);
        const measured = await measureCell(options, processes, subjects, bytes, outstanding);
        rows.push(...rowsOf(measured));
        cells.push(cellOf(measured));
      }
    }
    await processes.close();
    const report = { rows, cells, targets: targetsOf(cells) };
    print(report);
    return report;
  });
}

async function measureCell(
  options: Options,
  processes: Processes,
  subjects: readonly Subject[],
  bytes: number,
  outstanding: number,
): Promise<Measured> {
  const { seconds } = options;
  const lead: Subject = subjects[0] ?? 'growing';
  const limit: Figures<LimitKey>[] = [];
  const rounds = await inRounds(options.rounds, subjects, async (subject) => {
    const figures = await processes.of(subject).ask({ task: 'appends', bytes, outstanding, seconds }, APPEND_KEYS);
    if (subject === lead) {
      const { batch_bytes } = figures;
      limit.push(await processes.of('limit').ask({ task: 'limit', batch_bytes, seconds }, LIMIT_KEYS));
    }
    return figures;
  });
  return { bytes, outstanding, lead, rounds, limit };
}

function rowsOf({ bytes, outstanding, rounds }: Measured): AppendRow[] {
  return [...rounds].map(([subject, figures]) => ({ subject, bytes, outstanding, ...medians(figures, APPEND_KEYS) }));
}

function cellOf({ bytes, outstanding, lead, rounds, limit }: Measured): AppendCell {
  const batch_records = column(rounds, lead, 'batch_records');
  const limit_rates = limit.map(({ batches_per_s }, round) => batches_per_s * (batch_records[round] ?? Number.NaN));
  const limit_p50s_us = limit.map(({ p50_us }) => p50_us);
  const nativeOver = (other: Subject, key: AppendKey): number | null => {
    const compared = mediansOf(rounds, 'native', [key]) !== null && mediansOf(rounds, other, [key]) !== null;
    return compared ? medianRatio(column(rounds, 'native', key), column(rounds, other, key)) : null;
  };
  return {
    bytes,
    outstanding,
    limit_of: lead,
    limit_appends_per_s: median(limit_rates),
    limit_p50_us: median(limit_p50s_us),
    native_over_growing: nativeOver('growing', 'per_s'),
    native_over_portable: nativeOver('portable', 'per_s'),
    native_loop_over_portable: nativeOver('portable', 'loop_ns'),
    rate_over_limit: medianRatio(column(rounds, lead, 'per_s'), limit_rates),
    p50_over_limit: medianRatio(column(rounds, lead, 'p50_us'), limit_p50s_us),
  };
}

function targetsOf(cells: readonly AppendCell[]): Target[] {
  const places = (value: (cell: AppendCell) => number | null, only: (cell: AppendCell) => boolean = () => true) =>
    cells.filter(only).flatMap((cell): Placed[] => {
      const found = value(cell);
      return found === null ? [] : [{ where: whereOf(cell), value: found }];
    });
  const isNative = ({ limit_of }: AppendCell): boolean => limit_of === 'native';
  return [
    atLeast(
      'native >= 1.5x the growing file',
      1.5,
      places((cell) => cell.native_over_growing),
    ),
    atLeast(
      'native >= 1.0x the same layout',
      1,
      places((cell) => cell.native_over_portable),
    ),
    atMost(
      'native < 1.0x the event-loop time of the same layout',
      0.999,
      places((cell) => cell.native_loop_over_portable),
    ),
    atLeast(
      "native >= 0.7x the machine's limit at 2,048 outstanding",
      0.7,
      places(
        (cell) => cell.rate_over_limit,
        (cell) => isNative(cell) && cell.outstanding === 2048,
      ),
    ),
    atMost(
      'native p50 at 1 outstanding <= 1.15x one raw write and sync',
      1.15,
      places(
        (cell) => cell.p50_over_limit,
        (cell) => isNative(cell) && cell.outstanding === 1,
      ),
    ),
  ];
}

function whereOf({ bytes, outstanding }: { readonly bytes: number; readonly outstanding: number }): string {
  return `${bytes} B x ${whole(outstanding)}`;
}

function print({ rows, cells, targets }: AppendsReport): void {
  printHeading(
    'Durable appends, closed loop. growing: the portable engine on files that grow. Loop: event loop per append.',
  );
  printTable(
    [
      'subject',
      'bytes',
      'outstanding',
      'appends/s',
      'p50 µs',
      'p99 µs',
      'loop ns',
      'thread CPU ns',
      'per sync',
      'KiB/sync',
    ],
    rows.map((row) => [
      row.subject,
      whole(row.bytes),
      whole(row.outstanding),
      whole(row.per_s),
      whole(row.p50_us),
      whole(row.p99_us),
      whole(row.loop_ns),
      whole(row.thread_cpu_ns),
      fixed(row.batch_records, 1),
      fixed(row.batch_bytes / 1024, 1),
    ]),
  );
  const lead = cells[0]?.limit_of ?? 'native';
  printHeading(`Ratios. The limit: raw write and fdatasync of batches as large as those of ${lead}, in a plain loop.`);
  printTable(
    [
      'cell',
      'native/growing',
      'native/portable',
      'loop native/portable',
      'limit appends/s',
      `${lead}/limit`,
      'limit p50 µs',
      `p50 ${lead}/limit`,
    ],
    cells.map((cell) => [
      whereOf(cell),
      fixed(cell.native_over_growing ?? undefined, 2),
      fixed(cell.native_over_portable ?? undefined, 2),
      fixed(cell.native_loop_over_portable ?? undefined, 2),
      whole(cell.limit_appends_per_s),
      fixed(cell.rate_over_limit, 2),
      whole(cell.limit_p50_us),
      fixed(cell.p50_over_limit, 2),
    ]),
  );
  console.log();
  for (const target of targets) printTarget(target);
}
