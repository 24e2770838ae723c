/** What the log of the portable engine holds, and how opening finds it out from the segment files. */
import { join } from 'node:path';
import { assert } from '../errors.js';
import type { LogTail } from './append_queue.js';
import { type CorruptRecord, type LogOptions, RecordKind, type RecoveryReport } from './engine.js';
import { EntryIndex } from './entry_index.js';
import type { LogFile, LogFiles } from './files.js';
import {
  checkSegmentHeader,
  isUnfinishedSegmentName,
  RECORD_HEADER_BYTES,
  recordBytes,
  SEGMENT_HEADER_BYTES,
  segmentName,
  segmentOfName,
  segmentSeed,
} from './format.js';
import { type ScannedRecord, scanSegment } from './segment_scan.js';
import { type HeldState, StateTable } from './state_table.js';

/** A segment file and how much of it lives. */
export interface Segment {
  readonly id: number;
  readonly file: LogFile;
  size_bytes: number;
  /** Entries of the index that lie here. */
  live_entries: number;
  /** State records whose latest version lies here. */
  live_states: number;
  /** Damaged records without a key: nobody can tell that they are dead, so the segment stays. */
  unreadable: number;
  readers: number;
  /** Removed; the file is closed when the last reader is done. */
  retired: boolean;
}

/** Entries, states and segments, with the count of what lives in each segment. */
export class LogContents {
  readonly entries = new EntryIndex();
  readonly states = new StateTable();
  readonly segments = new Map<number, Segment>();
  private readonly unlive = (segment: number): void => {
    const held = this.segment(segment);
    held.live_entries--;
    if (held.live_entries === 0) this.swept = false;
  };
  /** False if a segment may have died since `takeDead`. */
  private swept = false;

  /** Whether `takeDead` is worth a look. */
  get mayHaveDead(): boolean {
    return !this.swept;
  }

  groups(): number[] {
    const groups = new Set(this.entries.groups());
    for (const group of this.states.groups()) groups.add(group);
    return [...groups].sort((a, b) => a - b);
  }

  segment(id: number): Segment {
    const segment = this.segments.get(id);
    assert(segment !== undefined, `segment ${id} is known`);
    return segment;
  }

  addSegment(id: number, file: LogFile, size_bytes: number): Segment {
    assert(!this.segments.has(id), `segment ${id} is new`);
    const counts = { live_entries: 0, live_states: 0, unreadable: 0, readers: 0, retired: false };
    const segment: Segment = { id, file, size_bytes, ...counts };
    this.segments.set(id, segment);
    this.swept = false;
    return segment;
  }

  putEntry(group: number, instance: number, segment: number, offset: number, body_bytes: number): void {
    const previous = this.entries.set(group, instance, segment, offset, body_bytes);
    this.segment(segment).live_entries++;
    if (previous !== 0) this.unlive(previous);
  }

  putState(group: number, slot: number, segment: number, offset: number, body: Buffer | null): void {
    const previous = this.states.durable(group, slot, segment, offset, body);
    this.segment(segment).live_states++;
    if (previous === 0) return;
    const held = this.segment(previous);
    held.live_states--;
    if (held.live_entries === 0) this.swept = false;
  }

  truncate(group: number, before: number): void {
    this.entries.truncate(group, before, this.unlive);
  }

  /** State records of the segments before `active` in which nothing else lives. */
  statesToRewrite(active: number): HeldState[] {
    if (this.swept) return [];
    const held: HeldState[] = [];
    for (const segment of this.idle(active)) held.push(...this.states.heldBy(segment.id));
    return held;
  }

  /** Segments before `active` in which nothing lives; they are no longer part of the log. */
  takeDead(active: number): Segment[] {
    if (this.swept) return [];
    this.swept = true;
    const dead = [...this.idle(active)].filter((segment) => segment.live_states === 0);
    for (const segment of dead) this.segments.delete(segment.id);
    return dead;
  }

  async closeFiles(): Promise<void> {
    for (const segment of this.segments.values()) await segment.file.close();
  }

  /** Segments before `active` in which no entry lives. */
  private *idle(active: number): Iterable<Segment> {
    for (const segment of this.segments.values()) {
      if (segment.id < active && segment.live_entries === 0 && segment.unreadable === 0) yield segment;
    }
  }
}

export interface RecoveredLog {
  readonly contents: LogContents;
  readonly report: Omit<RecoveryReport, 'elapsed_ms'>;
  readonly tail: LogTail;
}

/**
 * Reads all segments of the folder, oldest first, and cuts a torn tail. All that it returns is durable.
 *
 * @throws PhxError LOG_IDENTITY if a segment belongs to another identity, LOG_CORRUPT if its format is unknown, and
 *   whatever `files` throws
 */
export async function recoverLog(files: LogFiles, options: LogOptions): Promise<RecoveredLog> {
  const contents = new LogContents();
  try {
    return await recoverInto(contents, files, options);
  } catch (error) {
    await contents.closeFiles();
    throw error;
  }
}

async function recoverInto(
  contents: LogContents,
  files: LogFiles,
  { folder, identity, sync = true }: LogOptions,
): Promise<RecoveredLog> {
  const ids = await segmentsOf(files, folder);
  const corrupt: CorruptRecord[] = [];
  let tail: LogTail = { segment: 1, offset: SEGMENT_HEADER_BYTES, link: segmentSeed(identity, 1), unmarked: false };
  let records = 0;
  let bytes = 0;
  let torn_bytes = 0;
  for (const id of ids) {
    const newest = id === ids[ids.length - 1];
    const file = await files.open(join(folder, segmentName(id)));
    const segment = contents.addSegment(id, file, 0);
    const content = Buffer.from(new ArrayBuffer(await file.size()));
    const filled = await file.read(content, 0);
    assert(filled === content.length, 'a file is read to its end');
    segment.size_bytes = content.length;
    const headerIsSound = checkSegmentHeader(content, identity, id);
    if (!headerIsSound) corrupt.push({ segment: id, offset: 0, group: null, instance: null });
    const deliver = (record: ScannedRecord): void => {
      records++;
      bytes += recordBytes(record.body_bytes);
      put(contents, id, content, record);
    };
    const scan = scanSegment(content, id, segmentSeed(identity, id), newest, deliver);
    corrupt.push(...scan.corrupt);
    for (const record of scan.corrupt) if (record.group === null) segment.unreadable++;
    if (!newest) continue;
    torn_bytes = scan.torn_bytes;
    if (torn_bytes > 0) {
      // Cut, not overwritten: what is left of it could otherwise pass as records behind the next ones.
      await file.resize(scan.end);
      segment.size_bytes = scan.end;
    }
    // The records may have been read from memory that never reached the disk; the caller will build on them.
    if (sync) {
      await file.sync();
      await files.syncFolder(folder);
    }
    const { end: offset, link, unmarked } = scan;
    tail = headerIsSound && !scan.sealed ? { segment: id, offset, link, unmarked } : nextSegment(identity, id);
  }
  const open = corrupt.filter((record) => !isSuperseded(contents, record));
  const report = { segments: ids.length, records, bytes, torn_bytes, corrupt: open };
  return { contents, report, tail };
}

/** Ids of the segment files, ascending. Files of segments that were never used are removed. */
async function segmentsOf(files: LogFiles, folder: string): Promise<number[]> {
  const ids: number[] = [];
  for (const name of await files.list(folder)) {
    const id = segmentOfName(name);
    if (id !== null) ids.push(id);
    else if (isUnfinishedSegmentName(name)) await files.unlink(join(folder, name));
  }
  return ids.sort((a, b) => a - b);
}

function nextSegment(identity: Uint8Array, id: number): LogTail {
  return { segment: id + 1, offset: SEGMENT_HEADER_BYTES, link: segmentSeed(identity, id + 1), unmarked: false };
}

function put(contents: LogContents, segment: number, content: Buffer, record: ScannedRecord): void {
  const { kind, group, instance, offset, body_bytes } = record;
  if (kind === RecordKind.entry) {
    contents.putEntry(group, instance, segment, offset, body_bytes);
    return;
  }
  const start = offset + RECORD_HEADER_BYTES;
  const body = record.damaged ? null : Buffer.from(content.subarray(start, start + body_bytes));
  contents.putState(group, instance, segment, offset, body);
}

/** Whether a later record of the same key has taken the damaged one's place: then it is repaired. */
function isSuperseded(contents: LogContents, record: CorruptRecord): boolean {
  if (record.group === null || record.instance === null) return false;
  const { segment, offset, group, instance } = record;
  const entry = contents.entries.get(group, instance);
  const state = contents.states.place(group, instance);
  const isCurrent = (place: { segment: number; offset: number } | null): boolean =>
    place !== null && place.segment === segment && place.offset === offset;
  return !isCurrent(entry) && !isCurrent(state);
}
