/** What a log holds: entries, states and segments, with the count of what lives in each segment. */
import { assert } from '../errors.js';
import { RecordKind } from './engine.js';
import { EntryIndex } from './entry_index.js';
import { RECORD_HEADER_BYTES, recordBytes, SEGMENT_HEADER_BYTES } from './format.js';
import type { SegmentFile } from './segment_file.js';
import { StateTable } from './state_table.js';

/** A segment file and how much of it lives. Its counts are changed by `LogContents` only, which keeps sums of them. */
export interface Segment {
  readonly id: number;
  readonly file: SegmentFile;
  readonly size_bytes: number;
  /** Records of which the index or the state table holds the place, and their bytes. */
  live_records: number;
  live_bytes: number;
  /** Damaged records without a key: nobody can tell that they are dead, so the segment stays. */
  unreadable: number;
  /** Held such damage, which was replaced since: what lives here is moved, however much it is. */
  condemned: boolean;
  /** Offsets of live records that are damaged: they are neither dropped nor copied. */
  readonly damaged: Set<number>;
  readers: number;
  /** Removed; the file is closed when the last reader is done. */
  retired: boolean;
}

/** A record by its place. */
export interface PlacedRecord {
  readonly kind: number;
  readonly group: number;
  readonly instance: number;
  readonly segment: number;
  readonly offset: number;
  readonly body_bytes: number;
}

export class LogContents {
  readonly entries = new EntryIndex();
  readonly states = new StateTable();
  /** In the order of their ids. */
  readonly segments = new Map<number, Segment>();
  private size_bytes = 0;
  private live = 0;
  /** How many segments are dead. The newest may be among them. */
  private dead = 0;
  /** How many are condemned. */
  private condemned = 0;
  private readonly unlive = (id: number, offset: number, body_bytes: number): void => {
    const segment = this.segment(id);
    const bytes = recordBytes(body_bytes);
    segment.live_records--;
    segment.live_bytes -= bytes;
    segment.damaged.delete(offset);
    this.live -= bytes;
    if (isDead(segment)) this.dead++;
  };

  /** Bytes of the records that live. */
  get live_bytes(): number {
    return this.live;
  }

  /** Bytes of all segment files. */
  get segment_bytes(): number {
    return this.size_bytes;
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

  addSegment(id: number, file: SegmentFile, size_bytes: number): Segment {
    assert(!this.segments.has(id), `segment ${id} is new`);
    const counts = { live_records: 0, live_bytes: 0, unreadable: 0, damaged: new Set<number>(), readers: 0 };
    const segment: Segment = { id, file, size_bytes, ...counts, condemned: false, retired: false };
    this.segments.set(id, segment);
    this.size_bytes += size_bytes;
    this.dead++;
    return segment;
  }

  removeSegment(segment: Segment): void {
    this.segments.delete(segment.id);
    this.size_bytes -= segment.size_bytes;
    if (isDead(segment)) this.dead--;
    if (segment.condemned) this.condemned--;
  }

  /** Something in the segment cannot be read, and nobody knows what it is. */
  noteUnreadable(segment: Segment): void {
    if (isDead(segment)) this.dead--;
    segment.unreadable++;
  }

  /** The live record at this place is damaged. */
  noteDamaged(segment: Segment, offset: number): void {
    segment.damaged.add(offset);
  }

  /** Takes the record in place of an older one of the same key. A state record needs its `body`, null if damaged. */
  put(record: PlacedRecord, body: Buffer | null): void {
    const { kind, group, instance, segment: id, offset, body_bytes } = record;
    const segment = this.segment(id);
    const bytes = recordBytes(body_bytes);
    if (isDead(segment)) this.dead--;
    segment.live_records++;
    segment.live_bytes += bytes;
    this.live += bytes;
    if (kind === RecordKind.entry) {
      this.entries.set(group, instance, id, offset, body_bytes, this.unlive);
      return;
    }
    const previous = this.states.set(group, instance, { segment: id, offset, body_bytes, body });
    if (previous !== null) this.unlive(previous.segment, previous.offset, previous.body_bytes);
  }

  /** Whether the record at this place is the one that holds for its key. */
  isLive({ kind, group, instance, segment, offset }: PlacedRecord): boolean {
    const place = this.placeOf(kind, group, instance);
    return place !== null && place.segment === segment && place.offset === offset;
  }

  /** Segment of the record that holds for a key, 0 if there is none. */
  segmentOf(kind: number, group: number, instance: number): number {
    return this.placeOf(kind, group, instance)?.segment ?? 0;
  }

  truncate(group: number, before: number): void {
    this.entries.truncate(group, before, this.unlive);
  }

  /** Segments before `active` in which nothing lives. */
  deadBefore(active: number): Segment[] {
    // Asked at each commit, of a log that may have thousands of segments.
    if (this.dead === (isDead(this.segment(active)) ? 1 : 0)) return [];
    return [...this.segments.values()].filter((segment) => segment.id < active && isDead(segment));
  }

  /** Damaged records without a key hold no segment any more: what lives there besides is to be moved. */
  condemnUnreadable(): void {
    for (const segment of this.segments.values()) {
      if (segment.unreadable === 0) continue;
      segment.unreadable = 0;
      if (isDead(segment)) this.dead++;
      if (!segment.condemned) this.condemned++;
      segment.condemned = true;
    }
  }

  /**
   * The segment before `active` that is rewritten next, or null: one that is condemned; else the one with the fewest live
   * bytes, if the sealed segments take more than twice the bytes that live in them and `slack_bytes`.
   */
  sparseBefore(active: number, slack_bytes: number): Segment | null {
    const { size_bytes, live_bytes } = this.segment(active);
    const sparse = this.size_bytes - size_bytes > 2 * (this.live - live_bytes) + slack_bytes;
    if (!sparse && this.condemned === 0) return null;
    let sparsest: Segment | null = null;
    for (const segment of this.segments.values()) {
      if (segment.id >= active || segment.unreadable > 0 || segment.damaged.size > 0) continue;
      if (segment.condemned) return segment;
      if (!sparse || !isWorthMoving(segment)) continue;
      if (sparsest === null || segment.live_bytes < sparsest.live_bytes) sparsest = segment;
    }
    return sparsest;
  }

  async closeFiles(): Promise<void> {
    for (const segment of this.segments.values()) await segment.file.close();
  }

  private placeOf(kind: number, group: number, instance: number): { segment: number; offset: number } | null {
    return kind === RecordKind.entry ? this.entries.get(group, instance) : this.states.place(group, instance);
  }
}

function isDead({ live_records, unreadable }: Segment): boolean {
  return live_records === 0 && unreadable === 0;
}

/**
 * Whether at most half of what fits into the segment lives. Of more, the copies might fill the newest segment no better than
 * the segment was filled, and the moving would never end.
 */
function isWorthMoving({ size_bytes, live_bytes }: Segment): boolean {
  return 2 * live_bytes <= size_bytes - SEGMENT_HEADER_BYTES - RECORD_HEADER_BYTES;
}
