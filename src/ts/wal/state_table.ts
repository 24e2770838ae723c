/** The latest version of each state record, in memory. */
import { PhxError } from '../errors.js';

/** A version of a state record and where it lies. */
export interface StatePlace {
  readonly segment: number;
  readonly offset: number;
  readonly body_bytes: number;
  /** Null if it is damaged. */
  readonly body: Buffer | null;
}

export class StateTable {
  private readonly byGroup = new Map<number, Map<number, StatePlace>>();

  /** Groups that have a state record. */
  groups(): Iterable<number> {
    return this.byGroup.keys();
  }

  /**
   * Latest durable body, a copy, or null.
   *
   * @throws PhxError LOG_CORRUPT if the latest version is damaged; an older one would be a lie
   */
  get(group: number, slot: number): Uint8Array | null {
    const record = this.place(group, slot);
    if (record === null) return null;
    if (record.body !== null) return Uint8Array.from(record.body);
    throw new PhxError('LOG_CORRUPT', `state record of group ${group}, slot ${slot} is damaged`);
  }

  /** The latest durable version, or null. */
  place(group: number, slot: number): StatePlace | null {
    return this.byGroup.get(group)?.get(slot) ?? null;
  }

  /** Takes a version that is durable now; returns the one before. */
  set(group: number, slot: number, place: StatePlace): StatePlace | null {
    let slots = this.byGroup.get(group);
    if (slots === undefined) {
      slots = new Map();
      this.byGroup.set(group, slots);
    }
    const previous = slots.get(slot) ?? null;
    slots.set(slot, place);
    return previous;
  }
}
