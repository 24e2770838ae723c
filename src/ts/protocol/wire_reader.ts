import { PhxError } from '../errors.js';

/** The wire types of protobuf. */
export const WireType = { varint: 0, fixed64: 1, bytes: 2, group_start: 3, group_end: 4, fixed32: 5 } as const;

const tag_bytes_max = 5;
const varint_bytes_max = 10;
const group_depth_max = 100;
const u64_max = 0xffff_ffff_ffff_ffffn;

/**
 * Reads protobuf fields from a range of bytes without copying. Never reads outside of the range; whatever does not fit
 * the wire format throws PhxError PROTOBUF_PARSE.
 */
export class WireReader {
  readonly bytes: Uint8Array;
  pos: number;
  end: number;
  /** Halves of the last varint, unsigned. */
  low = 0;
  high = 0;

  constructor(bytes: Uint8Array, pos = 0, end = bytes.length) {
    this.bytes = bytes;
    this.pos = pos;
    this.end = end;
  }

  /** Reads a tag: field number · 8 + wire type. */
  tag(): number {
    const start = this.pos;
    this.varint();
    const tag = this.low;
    if (this.high !== 0 || tag >>> 3 === 0 || this.pos - start > tag_bytes_max) throw malformed('tag', start);
    return tag;
  }

  /** Reads a varint into `low` and `high`. */
  varint(): void {
    const { bytes, end } = this;
    const start = this.pos;
    const first = bytes[start] ?? 0;
    if (first < 0x80 && start < end) {
      this.low = first;
      this.high = 0;
      this.pos = start + 1;
      return;
    }
    let at = start;
    let low = 0;
    let high = 0;
    for (;;) {
      if (at >= end || at - start >= varint_bytes_max) throw malformed('varint', start);
      const byte = bytes[at] ?? 0;
      const group = at - start;
      at += 1;
      if (group < 4) low |= (byte & 0x7f) << (7 * group);
      else if (group === 4) {
        low |= (byte & 0x7f) << 28;
        high = (byte & 0x7f) >>> 4;
      } else high |= (byte & 0x7f) << (7 * group - 32);
      if (byte < 0x80) break;
    }
    this.low = low >>> 0;
    this.high = high >>> 0;
    this.pos = at;
  }

  int32(): number {
    this.varint();
    return this.low | 0;
  }

  uint32(): number {
    this.varint();
    return this.low;
  }

  /** Reads a uint64 as a number; exact up to 2^53. */
  uint64Number(): number {
    this.varint();
    return this.high * 0x1_0000_0000 + this.low;
  }

  uint64(): bigint {
    this.varint();
    const { low, high } = this;
    if (high === 0) return BigInt(low);
    if (high === 0xffff_ffff && low === 0xffff_ffff) return u64_max;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  /** Reads the length of a length-delimited field and returns where its content ends; `pos` is where it starts. */
  contentEnd(): number {
    const start = this.pos;
    this.varint();
    if (this.high !== 0 || this.low > this.end - this.pos) throw malformed('length', start);
    return this.pos + this.low;
  }

  /** Skips the content of the field whose tag was just read. */
  skip(tag: number): void {
    this.#skip(tag, 0);
  }

  #skip(tag: number, depth: number): void {
    switch (tag & 7) {
      case WireType.varint:
        this.varint();
        return;
      case WireType.fixed64:
        this.#advance(8);
        return;
      case WireType.bytes:
        this.pos = this.contentEnd();
        return;
      case WireType.group_start:
        this.#skipGroup(tag, depth);
        return;
      case WireType.fixed32:
        this.#advance(4);
        return;
      default:
        throw malformed('wire type', this.pos);
    }
  }

  #skipGroup(start_tag: number, depth: number): void {
    if (depth >= group_depth_max) throw malformed('nesting', this.pos);
    const end_tag = start_tag - WireType.group_start + WireType.group_end;
    for (let tag = this.tag(); tag !== end_tag; tag = this.tag()) this.#skip(tag, depth + 1);
  }

  #advance(count: number): void {
    if (count > this.end - this.pos) throw malformed('fixed field', this.pos);
    this.pos += count;
  }
}

function malformed(what: string, at: number): PhxError {
  return new PhxError('PROTOBUF_PARSE', `malformed ${what} at byte ${at}`);
}
