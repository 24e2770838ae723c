/** What a reading of the whole log finds: its segments, and what is wrong. */
import { FORMAT_VERSION, segmentName, segmentOfSpareName } from '../../wal/format.js';
import { UNFINISHED_MARKS_NAME } from '../../wal/marks.js';
import type { Fault, FaultyPlace, ScannedRecord } from '../../wal/segment_scan.js';
import { type FoundSegment, heldNote, type LogFolder } from './log_folder.js';
import type { Progress } from './progress.js';

export interface Problem {
  readonly kind: 'corruption' | 'torn tail';
  /** Null: of the log as a whole. */
  readonly segment: number | null;
  readonly offset: number | null;
  readonly group: number | null;
  readonly instance: number | null;
  readonly what: string;
}

/** `open` is the newest one, which the log goes on in; `unsealed` one that ends without a seal and should not. */
export type SegmentState = 'sealed' | 'open' | 'torn' | 'unsealed';

export interface SegmentFinding {
  readonly id: number;
  /** Null where the header is damaged. */
  readonly version: number | null;
  readonly size_bytes: number;
  readonly state: SegmentState;
  /** Offset behind the last record. */
  readonly end: number;
  readonly records: number;
  readonly torn_bytes: number;
}

export interface Survey {
  readonly segments: readonly SegmentFinding[];
  readonly problems: readonly Problem[];
  /** What is worth knowing and no problem. */
  readonly notes: readonly string[];
}

const FAULTS: Readonly<Record<Fault, string>> = {
  header: 'no readable record header',
  link: 'does not link to the record before it: something between is missing or replaced',
  length: 'the record reaches beyond the end of the file',
  body: 'the body does not match its checksum',
  padding: 'the padding behind the body is not zero',
  'no seal': 'the segment ends without a seal: records are missing',
};

/** Reads all segments, oldest first, and calls `deliver` for each entry and state record. */
export async function survey(
  folder: LogFolder,
  progress: Progress,
  deliver: (segment: number, record: ScannedRecord) => void,
): Promise<Survey> {
  const segments: SegmentFinding[] = [];
  const problems = folderProblems(folder);
  const notes = folderNotes(folder);
  const { ids } = folder.segments;
  for (const [index, id] of ids.entries()) {
    let records = 0;
    const found = await folder.scan(id, (record) => {
      records++;
      deliver(id, record);
    });
    if (found === null) {
      notes.push(goneNote(id));
      continue;
    }
    problems.push(...headerProblems(folder, found));
    if (folder.identity !== null) problems.push(...recordProblems(folder, found, notes));
    segments.push(findingOf(folder, found, records));
    noteSize(found, notes);
    progress.advance(index + 1, ids.length, found.bytes.length);
  }
  progress.end();
  return { segments, problems, notes };
}

/** Says that a segment was not read. */
export function goneNote(id: number): string {
  return `${segmentName(id)} was removed by the running process meanwhile`;
}

export function corruption(segment: number | null, offset: number | null, what: string): Problem {
  return { kind: 'corruption', segment, offset, group: null, instance: null, what };
}

function folderProblems(folder: LogFolder): Problem[] {
  const problems: Problem[] = [];
  const { marks, headers, identity } = folder;
  const version = Math.max(0, ...[...headers.values()].map((header) => header?.version ?? FORMAT_VERSION));
  if (marks === null && version >= FORMAT_VERSION) {
    problems.push(corruption(null, null, 'the file of high-water marks is missing: nobody can tell what else is'));
  } else if (marks !== null && marks.newest === null) {
    problems.push(
      corruption(null, null, 'no copy of the high-water marks can be read: nobody can tell what is missing'),
    );
  } else if (marks !== null && !marks.crash_explains) {
    marks.copies.forEach(({ state }, index) => {
      if (state === 'sound') return;
      problems.push(
        corruption(null, null, `copy ${index} of the high-water marks cannot be read; the other one serves`),
      );
    });
  }
  if (marks?.newest?.lost === true) {
    problems.push(corruption(null, null, 'the high-water marks were lost before: nobody can tell what else is'));
  }
  for (const copy of marks?.copies ?? []) {
    if (copy.identity === null || identity === null || copy.identity.equals(identity)) continue;
    const whose = copy.identity.toString('hex');
    problems.push(
      corruption(null, null, `a copy of the high-water marks belongs to another log, of identity ${whose}`),
    );
  }
  for (const id of folder.segments.missing) {
    problems.push(corruption(id, 0, `${segmentName(id)} is missing: the high-water marks list it`));
  }
  if (identity === null) {
    problems.push(corruption(null, null, 'nothing readable says whose log this is: its records cannot be read'));
  }
  return problems;
}

function folderNotes(folder: LogFolder): string[] {
  const notes: string[] = [];
  if (folder.holder !== null) notes.push(heldNote(folder));
  const { marks, names, segments, headers, identity } = folder;
  const torn = marks?.crash_explains === true;
  const unreadable = marks?.copies.some(({ state }) => state === 'unreadable') === true;
  if (torn && unreadable) {
    notes.push('one copy of the high-water marks is unfinished, as a crash may leave it; the other one serves');
  }
  for (const id of segments.removed) notes.push(`${segmentName(id)} is no longer part of the log; opening removes it`);
  if (names.includes(UNFINISHED_MARKS_NAME))
    notes.push(`${UNFINISHED_MARKS_NAME} was never finished; opening removes it`);
  for (const [name, header] of headers) {
    if (segmentOfSpareName(name) === null || folder.holder !== null) continue;
    if (header === null) notes.push(`${name} is unfinished; opening removes it`);
    else if (identity !== null && !header.identity.equals(identity)) notes.push(`${name} belongs to another log`);
  }
  return notes;
}

function headerProblems(folder: LogFolder, { id, header }: FoundSegment): Problem[] {
  if (header === null) return [corruption(id, 0, 'the header of the segment is damaged')];
  if (header.segment !== id) {
    return [corruption(id, 0, `the header is that of segment ${header.segment}: the file was exchanged or renamed`)];
  }
  if (folder.identity === null || header.identity.equals(folder.identity)) return [];
  return [corruption(id, 0, `the segment belongs to another log, of identity ${header.identity.toString('hex')}`)];
}

function recordProblems(folder: LogFolder, { id, scan }: FoundSegment, notes: string[]): Problem[] {
  const problems = scan.corrupt.map((place) => problemOf('corruption', place, FAULTS[place.fault]));
  if (scan.torn_bytes === 0 || scan.torn === null) return problems;
  if (folder.holder !== null) {
    notes.push(`segment ${id} offset ${scan.end}: a write is under way`);
    return problems;
  }
  const { fault, offset } = scan.torn;
  const where = offset === scan.end ? '' : ` at offset ${offset}`;
  const what = `${scan.torn_bytes} bytes of an append that was never finished (${FAULTS[fault]}${where})`;
  problems.push(problemOf('torn tail', { ...scan.torn, offset: scan.end }, what));
  return problems;
}

function problemOf(kind: Problem['kind'], place: FaultyPlace, what: string): Problem {
  const { segment, offset, group, instance } = place;
  return { kind, segment, offset, group, instance, what };
}

function findingOf(folder: LogFolder, { id, header, bytes, scan }: FoundSegment, records: number): SegmentFinding {
  const open = id === folder.newest;
  const rest = scan.torn_bytes > 0 ? 'torn' : open ? 'open' : 'unsealed';
  const { end, torn_bytes } = scan;
  const state = scan.sealed ? 'sealed' : rest;
  return { id, version: header?.version ?? null, size_bytes: bytes.length, state, end, records, torn_bytes };
}

function noteSize({ id, header, bytes }: FoundSegment, notes: string[]): void {
  if (header === null || header.version < FORMAT_VERSION || header.segment_bytes === bytes.length) return;
  notes.push(`${segmentName(id)} has ${bytes.length} bytes, and was made with ${header.segment_bytes}`);
}
