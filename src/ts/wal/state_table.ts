/** The latest version of each state record, in memory. */
import { PhxError } from '../errors.js';

interface StateRecord {
  /** Segment that holds the latest durable version, 0 if none is durable yet. */
  segment: number;
  offset: number;
  /** Null where the latest version is damaged. */
  body: Buffer | null;
  /** Versions that were appended and are not durable yet. */
  pending: number;
}

/** A state record whose only copy is in a segment. */
export interface HeldState {
  readonly group: number;
  readonly slot: number;
  readonly body: Buffer;
}

export class StateTable {
  private readonly byGroup = new Map<number, Map<number, StateRecord>>();

  /** Groups that have a durable state record. */
  *groups(): Iterable<number> {
    for (const [group, slots] of this.byGroup) {
      for (const record of slots.values()) {
        if (record.segment === 0) continue;
        yield group;
        break;
      }
    }
  }

  /**
   * Latest durable body, a copy, or null.
   *
   * @throws PhxError LOG_CORRUPT if the latest version is damaged; an older one would be a lie
   */
  get(group: number, slot: number): Uint8Array | null {
    const record = this.byGroup.get(group)?.get(slot);
    if (record === undefined || record.segment === 0) return null;
    if (record.body !== null) return Uint8Array.from(record.body);
    throw new PhxError('LOG_CORRUPT', `state record of group ${group}, slot ${slot} is damaged`);
  }

  /** Place of the latest durable version, or null. */
  place(group: number, slot: number): { segment: number; offset: number } | null {
    const record = this.byGroup.get(group)?.get(slot);
    return record === undefined || record.segment === 0 ? null : record;
  }

  appended(group: number, slot: number): void {
    this.record(group, slot).pending++;
  }

  /** Takes a version that is durable now; returns the segment of the version before, 0 if none. */
  durable(group: number, slot: number, segment: number, offset: number, body: Buffer | null): number {
    const record = this.record(group, slot);
    const previous = record.segment;
    if (record.pending > 0) record.pending--;
    record.segment = segment;
    record.offset = offset;
    record.body = body;
    return previous;
  }

  /** Undamaged records whose latest durable version lies in `segment` and has no successor on its way, by key. */
  heldBy(segment: number): HeldState[] {
    const held: HeldState[] = [];
    for (const [group, slots] of this.byGroup) {
      for (const [slot, record] of slots) {
        if (record.segment !== segment || record.pending > 0 || record.body === null) continue;
        held.push({ group, slot, body: record.body });
      }
    }
    return held.sort((a, b) => a.group - b.group || a.slot - b.slot);
  }

  private record(group: number, slot: number): StateRecord {
    let slots = this.byGroup.get(group);
    if (slots === undefined) {
      slots = new Map();
      this.byGroup.set(group, slots);
    }
    let record = slots.get(slot);
    if (record === undefined) {
      record = { segment: 0, offset: 0, body: null, pending: 0 };
      slots.set(slot, record);
    }
    return record;
  }
}
