/** Which records are the latest of their key, as opening would have it: 12 bytes of memory an entry. */
import { RecordKind } from '../../wal/engine.js';
import { EntryIndex, type InstanceRun } from '../../wal/entry_index.js';
import { recordBytes } from '../../wal/format.js';
import type { ScannedRecord } from '../../wal/segment_scan.js';
import { StateTable } from '../../wal/state_table.js';

/** Holes of a group that are named one by one. */
const HOLES_MAX = 100;

/** Of a segment. Dead: a later record has the same key. */
export interface RecordCounts {
  entries: number;
  states: number;
  record_bytes: number;
  live_records: number;
  live_bytes: number;
}

export interface GroupFinding {
  readonly group: number;
  /** Latest ones: each instance counts once. */
  readonly entries: number;
  /** Null if it has no entries. */
  readonly first: number | null;
  readonly last: number | null;
  /** Instances between first and last that are not there. */
  readonly missing: number;
  /** The first 100 gaps. */
  readonly holes: readonly InstanceRun[];
  /** Slots of its state records, ascending. */
  readonly states: readonly number[];
}

export class LiveIndex {
  private readonly entries = new EntryIndex();
  private readonly states = new StateTable();
  private readonly slots = new Map<number, Set<number>>();
  private readonly segments = new Map<number, RecordCounts>();
  private readonly unlive = (segment: number, _offset: number, body_bytes: number): void => {
    const counts = this.counts(segment);
    counts.live_records--;
    counts.live_bytes -= recordBytes(body_bytes);
  };

  /** Takes each entry and state record of the log, in order. */
  put(segment: number, { kind, group, instance, offset, body_bytes }: ScannedRecord): void {
    const counts = this.counts(segment);
    const bytes = recordBytes(body_bytes);
    counts.record_bytes += bytes;
    counts.live_records++;
    counts.live_bytes += bytes;
    if (kind === RecordKind.entry) {
      counts.entries++;
      this.entries.set(group, instance, segment, offset, body_bytes, this.unlive);
      return;
    }
    counts.states++;
    const slots = this.slots.get(group);
    if (slots === undefined) this.slots.set(group, new Set([instance]));
    else slots.add(instance);
    const previous = this.states.set(group, instance, { segment, offset, body_bytes, body: null });
    if (previous !== null) this.unlive(previous.segment, previous.offset, previous.body_bytes);
  }

  counts(segment: number): RecordCounts {
    const known = this.segments.get(segment);
    if (known !== undefined) return known;
    const counts = { entries: 0, states: 0, record_bytes: 0, live_records: 0, live_bytes: 0 };
    this.segments.set(segment, counts);
    return counts;
  }

  groups(): GroupFinding[] {
    const groups = new Set([...this.entries.groups(), ...this.states.groups()]);
    return [...groups].sort((a, b) => a - b).map((group) => this.groupOf(group));
  }

  private groupOf(group: number): GroupFinding {
    const holes: InstanceRun[] = [];
    let entries = 0;
    let missing = 0;
    let end: number | null = null;
    for (const { first, last } of this.entries.runs(group)) {
      entries += last - first + 1;
      if (end !== null) {
        missing += first - end - 1;
        if (holes.length < HOLES_MAX) holes.push({ first: end + 1, last: first - 1 });
      }
      end = last;
    }
    const { first, last } = this.entries.bounds(group) ?? { first: null, last: null };
    const states = [...(this.slots.get(group) ?? [])].sort((a, b) => a - b);
    return { group, entries, first, last, missing, holes, states };
  }
}
