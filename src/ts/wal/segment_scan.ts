/**
 * Reads one segment file: which records are in it, where it ends, and whether what is bad is a torn tail or corruption.
 *
 * A batch is written only after the batch before it is durable. So a bad place is corruption, never a torn tail, if any
 * record behind it belongs to a batch that began behind it (`batch` of its header), or if the segment is not the newest.
 * Else it lies in the last batch, which may not have been durable yet, and is cut with all that follows.
 */
import { crc32c } from './crc32c.js';
import { type CorruptRecord, RecordKind } from './engine.js';
import {
  EngineKind,
  emptyHeader,
  FLAG_CONTINUES,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  readRecordHeader,
  recordBytes,
  SEGMENT_HEADER_BYTES,
} from './format.js';

/** A record found: its place, and whether its body is damaged (then its header is sound and its key known). */
export interface ScannedRecord {
  readonly kind: number;
  readonly group: number;
  readonly instance: number;
  readonly offset: number;
  readonly body_bytes: number;
  readonly damaged: boolean;
}

export interface SegmentScan {
  /** Position behind the last record: where the next one goes. */
  readonly end: number;
  /** Checksum of the last header: the link of the next record. */
  readonly link: number;
  /** The segment is full and closed by a seal. */
  readonly sealed: boolean;
  /** Records lie before `end`, the last of which is no mark of a clean close. */
  readonly unmarked: boolean;
  /** Bytes behind `end` that are not zero and were never durable. */
  readonly torn_bytes: number;
  readonly corrupt: readonly CorruptRecord[];
}

/**
 * Scans the bytes of a segment file and calls `deliver` for each record of the two kinds of engine.ts in order.
 *
 * @param newest whether this is the newest segment: only there can a tail be torn
 */
export function scanSegment(
  bytes: Buffer,
  segment: number,
  seed: number,
  newest: boolean,
  deliver: (record: ScannedRecord) => void,
): SegmentScan {
  const header = emptyHeader();
  const corrupt: CorruptRecord[] = [];
  /** Records of an append whose last record has not been seen yet. */
  const held: ScannedRecord[] = [];
  let at = SEGMENT_HEADER_BYTES;
  let appendStart = at;
  let appendLink = seed;
  let link = seed;
  let chained = true;
  let sealed = false;
  let unmarked = false;
  let durableBefore = 0;

  const release = (): void => {
    for (const record of held) deliver(record);
    held.length = 0;
    appendStart = at;
    appendLink = link;
  };
  const wasDurable = (position: number): boolean => {
    if (!newest) return true;
    if (position >= durableBefore) durableBefore = batchBehind(bytes, position, seed);
    return position < durableBefore;
  };

  while (!sealed && at < bytes.length) {
    const sound = readRecordHeader(bytes, at, at, seed, header);
    const damaged = !sound || (chained && header.link !== link) || !bodyIsSound(bytes, at, header);
    if (damaged && !wasDurable(at)) break;
    if (damaged) {
      // A mark or seal has no key; that it does not link up says that something before it is missing.
      const keyed = sound && (header.kind === RecordKind.entry || header.kind === RecordKind.state);
      const { group, instance } = keyed ? header : { group: null, instance: null };
      corrupt.push({ segment, offset: at, group, instance });
    }
    chained = sound;
    if (!sound) {
      at = nextHeader(bytes, at + 8, seed, header);
      release();
      continue;
    }
    if (header.kind === EngineKind.seal) sealed = true;
    else if (header.kind !== EngineKind.mark) held.push(toScanned(header, at, damaged));
    at += recordBytes(header.body_bytes);
    link = header.header_crc;
    if ((header.flags & FLAG_CONTINUES) !== 0) continue;
    release();
    unmarked = header.kind !== EngineKind.mark;
  }
  if (newest) {
    const torn_bytes = sealed ? 0 : Math.max(0, lengthWithoutZeros(bytes) - appendStart);
    return { end: appendStart, link: appendLink, sealed, unmarked, torn_bytes, corrupt };
  }
  // Only a sealed segment has a successor: an end without a seal means that records are missing.
  if (!sealed && chained) corrupt.push({ segment, offset: at, group: null, instance: null });
  release();
  return { end: at, link, sealed, unmarked, torn_bytes: 0, corrupt };
}

function toScanned(header: RecordHeader, offset: number, damaged: boolean): ScannedRecord {
  const { kind, group, instance, body_bytes } = header;
  return { kind, group, instance, offset, body_bytes, damaged };
}

function bodyIsSound(bytes: Buffer, at: number, header: RecordHeader): boolean {
  const start = at + RECORD_HEADER_BYTES;
  const end = start + header.body_bytes;
  return end <= bytes.length && crc32c(bytes, start, end) === header.body_crc;
}

/** Position of the next sound header at `from` or behind, or the end of the bytes. */
function nextHeader(bytes: Buffer, from: number, seed: number, header: RecordHeader): number {
  for (let at = from; at + RECORD_HEADER_BYTES <= bytes.length; at += 8) {
    if (readRecordHeader(bytes, at, at, seed, header)) return at;
  }
  return bytes.length;
}

/** Highest batch start that a sound header behind `position` names, or `position` itself: all before was durable. */
function batchBehind(bytes: Buffer, position: number, seed: number): number {
  const header = emptyHeader();
  let at = nextHeader(bytes, position + 8, seed, header);
  let batch = position;
  while (at < bytes.length) {
    batch = Math.max(batch, header.batch);
    at = nextHeader(bytes, at + 8, seed, header);
  }
  return batch;
}

/** Length of the bytes without the zeros at their end. */
function lengthWithoutZeros(bytes: Buffer): number {
  let end = bytes.length;
  while (end >= 8 && bytes.readInt32LE(end - 4) === 0 && bytes.readInt32LE(end - 8) === 0) end -= 8;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return end;
}
