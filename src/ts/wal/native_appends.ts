/**
 * Gathers the appends of one turn of the event loop in the form in which they go over to the addon
 * (crates/wal/src/node_append.rs): what crosses the boundary costs more than what it carries.
 */
import type { LogRecord } from './engine.js';

/** Numbers of each record: kind (plus LAST if it ends its append), group, instance, where its body is. */
const FIELDS = 4;
const LAST = 16;
/** Bodies up to this size are copied next to each other, which is cheaper than to hand over the arrays. */
const SMALL_BYTES_MAX = 1024;

/** From here on they go over before the turn ends: the writer begins with them while more are gathered. */
const ITEMS_FULL = 512;
const BYTES_FULL = 256 * 1024;
/** So do as many while nothing else is being written: then the writer and this thread work at the same time. */
const ITEMS_WORTH_A_WRITE = 32;
const BYTES_WORTH_A_WRITE = 64 * 1024;
/** Larger scratch, for an append of very many records, is given up after it. */
const ITEMS_KEPT_MAX = 4 * ITEMS_FULL;
const SMALL_KEPT_MAX = 4 * BYTES_FULL;

export class GatheredAppends {
  keys = new Float64Array(2 * ITEMS_FULL * FIELDS);
  items = 0;
  appends = 0;
  /** Small bodies, one after the other. */
  small = new Uint8Array(2 * BYTES_FULL);
  /** Parts of the other bodies. */
  parts: Uint8Array[] = [];
  private small_bytes = 0;
  private part_bytes = 0;

  get empty(): boolean {
    return this.items === 0;
  }

  get full(): boolean {
    return this.items >= ITEMS_FULL || this.bytes >= BYTES_FULL;
  }

  get worth_a_write(): boolean {
    return this.items >= ITEMS_WORTH_A_WRITE || this.bytes >= BYTES_WORTH_A_WRITE;
  }

  private get bytes(): number {
    return this.small_bytes + this.part_bytes;
  }

  /** `bytes` has the length of the body of each record. */
  add(records: readonly LogRecord[], bytes: readonly number[]): void {
    this.appends++;
    let left = records.length;
    if (left === 0) this.item(LAST, 0, 0, 0);
    for (const { kind, group, instance, body } of records) {
      const body_bytes = bytes[records.length - left] ?? 0;
      left--;
      const small = body_bytes <= SMALL_BYTES_MAX;
      this.item(left === 0 ? kind + LAST : kind, group, instance, small ? -1 - body_bytes : body.length);
      if (small) {
        this.copy(body, body_bytes);
      } else {
        for (const part of body) this.parts.push(part);
        this.part_bytes += body_bytes;
      }
    }
  }

  clear(): void {
    if (this.keys.length > ITEMS_KEPT_MAX * FIELDS) this.keys = new Float64Array(2 * ITEMS_FULL * FIELDS);
    if (this.small.length > SMALL_KEPT_MAX) this.small = new Uint8Array(2 * BYTES_FULL);
    if (this.parts.length > 0) this.parts = [];
    this.items = 0;
    this.appends = 0;
    this.small_bytes = 0;
    this.part_bytes = 0;
  }

  private item(kind: number, group: number, instance: number, body: number): void {
    let at = this.items * FIELDS;
    if (at === this.keys.length) {
      const larger = new Float64Array(this.keys.length * 2);
      larger.set(this.keys);
      this.keys = larger;
    }
    const keys = this.keys;
    keys[at++] = kind;
    keys[at++] = group;
    keys[at++] = instance;
    keys[at] = body;
    this.items++;
  }

  private copy(body: readonly Uint8Array[], body_bytes: number): void {
    let at = this.small_bytes;
    if (at + body_bytes > this.small.length) {
      const larger = new Uint8Array(this.small.length * 2);
      larger.set(this.small.subarray(0, at));
      this.small = larger;
    }
    for (const part of body) {
      this.small.set(part, at);
      at += part.length;
    }
    this.small_bytes = at;
  }
}
