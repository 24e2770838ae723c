/**
 * Where the entries are: per group, pages of 256 instances in typed arrays (12 bytes an entry). Pages, not one vector:
 * a hole of any width costs nothing, and truncation frees whole pages.
 */
const PAGE_ENTRIES = 256;
const FIELDS = 3;
const PAGE_WORDS = PAGE_ENTRIES * FIELDS + 1;
const USED = PAGE_ENTRIES * FIELDS;

/** A record's place. `segment` 0 means none. */
export interface Location {
  readonly segment: number;
  readonly offset: number;
  readonly body_bytes: number;
}

export interface LocatedEntry extends Location {
  readonly instance: number;
}

/** Instances without a hole between them. */
export interface InstanceRun {
  readonly first: number;
  readonly last: number;
}

/** Told of each place that holds no live entry any more. */
export type Removed = (segment: number, offset: number, body_bytes: number) => void;

/** Index of one group. */
class GroupIndex {
  private readonly pages = new Map<number, Uint32Array>();
  /** Numbers of the pages, ascending. */
  private readonly order: number[] = [];

  get pageCount(): number {
    return this.order.length;
  }

  set(instance: number, segment: number, offset: number, body_bytes: number, removed: Removed): void {
    const number = Math.floor(instance / PAGE_ENTRIES);
    let page = this.pages.get(number);
    if (page === undefined) {
      page = new Uint32Array(PAGE_WORDS);
      this.pages.set(number, page);
      this.order.splice(this.positionOf(number), 0, number);
    }
    const at = (instance % PAGE_ENTRIES) * FIELDS;
    const previous = page[at] ?? 0;
    if (previous === 0) page[USED] = (page[USED] ?? 0) + 1;
    else removed(previous, page[at + 1] ?? 0, page[at + 2] ?? 0);
    page[at] = segment;
    page[at + 1] = offset;
    page[at + 2] = body_bytes;
  }

  get(instance: number): Location | null {
    const page = this.pages.get(Math.floor(instance / PAGE_ENTRIES));
    return page === undefined ? null : locationAt(page, instance % PAGE_ENTRIES);
  }

  first(): number | null {
    const number = this.order[0];
    if (number === undefined) return null;
    const page = this.pages.get(number);
    let slot = 0;
    while (slot < PAGE_ENTRIES && page?.[slot * FIELDS] === 0) slot++;
    return number * PAGE_ENTRIES + slot;
  }

  last(): number | null {
    const number = this.order[this.order.length - 1];
    if (number === undefined) return null;
    const page = this.pages.get(number);
    let slot = PAGE_ENTRIES - 1;
    while (slot > 0 && page?.[slot * FIELDS] === 0) slot--;
    return number * PAGE_ENTRIES + slot;
  }

  range(from: number, through: number, bytes_max: number): LocatedEntry[] {
    const found: LocatedEntry[] = [];
    let bytes = 0;
    for (let at = this.positionOf(Math.floor(from / PAGE_ENTRIES)); at < this.order.length; at++) {
      const number = this.order[at] ?? 0;
      const page = this.pages.get(number);
      const base = number * PAGE_ENTRIES;
      if (page === undefined || base > through) break;
      const end = Math.min(through - base, PAGE_ENTRIES - 1);
      for (let slot = Math.max(from - base, 0); slot <= end; slot++) {
        const location = locationAt(page, slot);
        if (location === null) continue;
        if (found.length > 0 && bytes + location.body_bytes > bytes_max) return found;
        bytes += location.body_bytes;
        found.push({ instance: base + slot, ...location });
      }
    }
    return found;
  }

  *runs(): Generator<InstanceRun, void, void> {
    let first = -1;
    let last = -1;
    for (const number of this.order) {
      const page = this.pages.get(number);
      for (let slot = 0; slot < PAGE_ENTRIES; slot++) {
        if (page === undefined || page[slot * FIELDS] === 0) continue;
        const instance = number * PAGE_ENTRIES + slot;
        if (first >= 0 && instance > last + 1) {
          yield { first, last };
          first = -1;
        }
        if (first < 0) first = instance;
        last = instance;
      }
    }
    if (first >= 0) yield { first, last };
  }

  truncate(before: number, removed: Removed): void {
    const keep = Math.floor(before / PAGE_ENTRIES);
    const whole = this.positionOf(keep);
    for (const number of this.order.splice(0, whole)) {
      const page = this.pages.get(number);
      this.pages.delete(number);
      if (page !== undefined) clear(page, PAGE_ENTRIES, removed);
    }
    const page = this.pages.get(keep);
    if (page === undefined) return;
    clear(page, before % PAGE_ENTRIES, removed);
    if (page[USED] !== 0) return;
    this.pages.delete(keep);
    this.order.shift();
  }

  /** Position in `order` of the first page whose number is not below `number`. */
  private positionOf(number: number): number {
    let low = 0;
    let high = this.order.length;
    if (high > 0 && (this.order[high - 1] ?? 0) < number) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.order[middle] ?? 0) < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function locationAt(page: Uint32Array, slot: number): Location | null {
  const at = slot * FIELDS;
  const segment = page[at] ?? 0;
  return segment === 0 ? null : { segment, offset: page[at + 1] ?? 0, body_bytes: page[at + 2] ?? 0 };
}

function clear(page: Uint32Array, slots: number, removed: Removed): void {
  for (let slot = 0; slot < slots; slot++) {
    const at = slot * FIELDS;
    const segment = page[at] ?? 0;
    if (segment === 0) continue;
    removed(segment, page[at + 1] ?? 0, page[at + 2] ?? 0);
    page[at] = 0;
    page[USED] = (page[USED] ?? 0) - 1;
  }
}

/** Index of all groups. A group that holds no entry is not in it. */
export class EntryIndex {
  private readonly byGroup = new Map<number, GroupIndex>();

  groups(): Iterable<number> {
    return this.byGroup.keys();
  }

  /** Bytes that the pages take. */
  get bytes(): number {
    let pages = 0;
    for (const group of this.byGroup.values()) pages += group.pageCount;
    return pages * PAGE_WORDS * 4;
  }

  /** `removed` is told of the entry that was there before. */
  set(group: number, instance: number, segment: number, offset: number, body_bytes: number, removed: Removed): void {
    let index = this.byGroup.get(group);
    if (index === undefined) {
      index = new GroupIndex();
      this.byGroup.set(group, index);
    }
    index.set(instance, segment, offset, body_bytes, removed);
  }

  get(group: number, instance: number): Location | null {
    return this.byGroup.get(group)?.get(instance) ?? null;
  }

  bounds(group: number): { first: number; last: number } | null {
    const index = this.byGroup.get(group);
    const first = index?.first() ?? null;
    const last = index?.last() ?? null;
    return first === null || last === null ? null : { first, last };
  }

  /** Places of from <= instance <= through, ascending, until `bytes_max` bytes of bodies (one entry at least). */
  range(group: number, from: number, through: number, bytes_max: number): LocatedEntry[] {
    return this.byGroup.get(group)?.range(from, through, bytes_max) ?? [];
  }

  /** The group's instances, ascending, as runs without holes. */
  runs(group: number): Iterable<InstanceRun> {
    return this.byGroup.get(group)?.runs() ?? [];
  }

  /** Drops the entries below `before`; `removed` is told of each. */
  truncate(group: number, before: number, removed: Removed): void {
    const index = this.byGroup.get(group);
    if (index === undefined) return;
    index.truncate(before, removed);
    if (index.pageCount === 0) this.byGroup.delete(group);
  }
}
