/** `wal_tool inspect`: what the folder holds. */

import { isLockName } from '../../wal/folder_lock.js';
import { retiredSegmentName, segmentName, segmentOfRetiredName, segmentOfSpareName } from '../../wal/format.js';
import { type GroupFinding, LiveIndex } from './live_index.js';
import { type FoundMarksFile, type LogFolder, otherNames } from './log_folder.js';
import type { Output } from './output.js';
import type { Progress } from './progress.js';
import { Repairs } from './repairs.js';
import { type SegmentFinding, survey } from './survey.js';
import { bytesText, counted, table } from './table.js';

interface SizedFile {
  readonly name: string;
  readonly size_bytes: number;
}

type InspectedSegment = ReturnType<typeof segmentOf>;

/** Prints tables, or one JSON document. */
export async function inspect(folder: LogFolder, json: boolean, output: Output, progress: Progress): Promise<void> {
  const report = await inspection(folder, progress);
  if (json) {
    await output.line(JSON.stringify(report, null, 2));
    return;
  }
  for (const line of linesOf(report)) await output.line(line);
}

type Inspection = Awaited<ReturnType<typeof inspection>>;

async function inspection(folder: LogFolder, progress: Progress) {
  const index = new LiveIndex();
  const repairs = new Repairs();
  const found = await survey(folder, progress, (segment, record) => {
    index.put(segment, record);
    repairs.put(segment, record);
  });
  const problems = repairs.part(found.problems).open;
  const segments = found.segments.map((segment) => segmentOf(segment, index));
  const groups = index.groups();
  const versions = new Set(found.segments.map(({ version }) => version).filter((version) => version !== null));
  const spares = await sized(folder, (name) => segmentOfSpareName(name) !== null);
  const retired = await sized(folder, (name) => segmentOfRetiredName(name) !== null);
  const sum = (of: (segment: InspectedSegment) => number): number =>
    segments.reduce((total, one) => total + of(one), 0);
  const beside_bytes = [...spares, ...retired].reduce((total, { size_bytes }) => total + size_bytes, 0);
  return {
    folder: folder.path,
    format_versions: [...versions].sort((a, b) => a - b),
    identity: folder.identity?.toString('hex') ?? null,
    holder: folder.holder,
    marks: folder.marks === null ? null : marksOf(folder.marks),
    segments,
    missing_segments: folder.segments.missing,
    removed_segments: folder.segments.removed,
    spares,
    retired,
    locks_left: folder.names.filter((name) => isLockName(name) && name !== folder.holder),
    other_files: otherNames(folder.names),
    groups,
    totals: {
      segments: segments.length,
      groups: groups.length,
      entries: sum(({ entries }) => entries),
      states: sum(({ states }) => states),
      record_bytes: sum(({ record_bytes }) => record_bytes),
      live_records: sum(({ live_records }) => live_records),
      live_bytes: sum(({ live_bytes }) => live_bytes),
      disk_bytes: sum(({ size_bytes }) => size_bytes) + beside_bytes,
    },
    problems: problems.length,
    notes: found.notes,
  };
}

function segmentOf(found: SegmentFinding, index: LiveIndex) {
  const counts = index.counts(found.id);
  const dead_records = found.records - counts.live_records;
  const dead_bytes = counts.record_bytes - counts.live_bytes;
  return { name: segmentName(found.id), ...found, ...counts, dead_records, dead_bytes };
}

function marksOf({ size_bytes, copies, newest }: FoundMarksFile) {
  return {
    size_bytes,
    copies: copies.map(({ state, copy }) => ({ state, newest: copy !== null && copy === newest, ...copy })),
  };
}

async function sized(folder: LogFolder, wanted: (name: string) => boolean): Promise<SizedFile[]> {
  const files: SizedFile[] = [];
  for (const name of folder.names.filter(wanted)) {
    const size_bytes = await folder.sizeOf(name);
    if (size_bytes !== null) files.push({ name, size_bytes });
  }
  return files;
}

function linesOf(report: Inspection): string[] {
  const { totals, problems } = report;
  const damage =
    problems === 0 ? 'no problems were found' : `${counted(problems, 'problem')}: wal_tool verify says which`;
  return [
    `folder    ${report.folder}`,
    `held by   ${report.holder ?? 'nobody'}`,
    `format    version ${report.format_versions.join(' and ') || 'unknown'}`,
    `identity  ${report.identity ?? 'unknown'}`,
    ...marksLines(report.marks),
    '',
    ...segmentLines(report.segments),
    ...report.missing_segments.map((id) => `${segmentName(id)}  missing`),
    ...[...report.spares, ...report.retired].map(({ name, size_bytes }) => {
      const what = name === retiredSegmentName(segmentOfRetiredName(name) ?? 0) ? 'retired' : 'spare';
      return `${name}  ${what}, ${bytesText(size_bytes)}`;
    }),
    '',
    ...groupLines(report.groups),
    '',
    `totals    ${counted(totals.entries, 'entry', 'entries')}, ${counted(totals.states, 'state')} in ` +
      `${counted(totals.segments, 'segment')} and ${counted(totals.groups, 'group')}`,
    `          ${bytesText(totals.record_bytes)} of records, ${bytesText(totals.live_bytes)} live, ` +
      `${bytesText(totals.disk_bytes)} on disk`,
    `          ${damage}`,
    ...report.notes.map((note) => `note      ${note}`),
  ];
}

function marksLines(marks: Inspection['marks']): string[] {
  if (marks === null) return ['marks     none'];
  return marks.copies.map((copy, index) => {
    const head = index === 0 ? 'marks     ' : '          ';
    if (copy.durable === undefined) return `${head}copy ${index}: ${copy.state}`;
    const { sequence, durable, segments, clean, lost } = copy;
    const flags = [copy.newest === true ? 'newest' : '', clean === true ? 'clean' : '', lost === true ? 'lost' : ''];
    const said = [
      `sequence ${sequence}`,
      `durable up to segment ${durable.segment} offset ${durable.offset}`,
      `lists ${counted(segments?.length ?? 0, 'segment')}`,
      ...flags.filter((flag) => flag !== ''),
    ];
    return `${head}copy ${index}: ${said.join(', ')}`;
  });
}

function segmentLines(segments: readonly InspectedSegment[]): string[] {
  const rows = segments.map((one) => [
    one.name,
    one.version === null ? '?' : String(one.version),
    one.state,
    bytesText(one.size_bytes),
    String(one.end),
    String(one.entries),
    String(one.states),
    String(one.live_records),
    bytesText(one.live_bytes),
    String(one.dead_records),
    String(one.torn_bytes),
  ]);
  const head = [
    'segment',
    'version',
    'state',
    'size',
    'end',
    'entries',
    'states',
    'live',
    'live bytes',
    'dead',
    'torn',
  ];
  return table(head, rows, 3);
}

function groupLines(groups: readonly GroupFinding[]): string[] {
  const rows = groups.map(({ group, entries, first, last, missing, holes, states }) => [
    String(group),
    String(entries),
    first === null ? '-' : String(first),
    last === null ? '-' : String(last),
    String(missing),
    states.join(' ') || '-',
    holesText(holes),
  ]);
  return table(['group', 'entries', 'first', 'last', 'missing', 'state slots', 'holes'], rows, 0);
}

function holesText(holes: GroupFinding['holes']): string {
  const named = holes.slice(0, 3).map(({ first, last }) => (first === last ? String(first) : `${first}..${last}`));
  if (holes.length > named.length) named.push('…');
  return named.join(' ') || '-';
}
