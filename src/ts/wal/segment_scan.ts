/**
 * Reads one segment file: which records are in it, where it ends, and whether what is bad is a torn tail or corruption.
 *
 * A batch is written only after the batch before it is durable. So a bad place is corruption, never a torn tail, if any
 * record behind it belongs to a batch that began behind it (`batch` of its header), if the high-water marks say that it was
 * durable, or if the segment is not the newest. Else it lies in the last batch, which may not have been durable yet, and is
 * discarded with all that follows.
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

/** What is wrong with a place of a segment. */
export type Fault = 'header' | 'link' | 'length' | 'body' | 'padding' | 'no seal';

/** A bad place, and what is wrong with it. */
export interface FaultyPlace extends CorruptRecord {
  readonly fault: Fault;
}

export interface SegmentScan {
  /** Position behind the last record: where the next one goes. */
  readonly end: number;
  /** Checksum of the last header: the link of the next record. */
  readonly link: number;
  /** Closed by a seal, or damaged up to its end: no record may be appended. */
  readonly ended: boolean;
  /** Bytes behind `end` up to the last record header of this segment: never durable. */
  readonly torn_bytes: number;
  /** Where the torn tail became unreadable, or null if there is none. */
  readonly torn: FaultyPlace | null;
  /** Ends with a seal. */
  readonly sealed: boolean;
  readonly corrupt: readonly FaultyPlace[];
}

/**
 * Scans the bytes of a segment file and calls `deliver` for each record of the two kinds of engine.ts in order.
 *
 * @param durable_end everything before this offset was durable: infinite for all but the newest segment, for that one what
 *   the high-water marks say
 */
export function scanSegment(
  bytes: Buffer,
  segment: number,
  seed: number,
  durable_end: number,
  deliver: (record: ScannedRecord) => void,
): SegmentScan {
  const header = emptyHeader();
  const corrupt: FaultyPlace[] = [];
  /** Records of an append whose last record has not been seen yet. */
  const held: ScannedRecord[] = [];
  let at = SEGMENT_HEADER_BYTES;
  let appendStart = at;
  let appendLink = seed;
  let link = seed;
  let chained = true;
  let sealed = false;
  let torn: FaultyPlace | null = null;
  /** Of the sound headers behind the first bad place that may be torn. */
  let behind: HeadersBehind | null = null;

  const release = (): void => {
    for (const record of held) deliver(record);
    held.length = 0;
    appendStart = at;
    appendLink = link;
  };
  const wasDurable = (position: number): boolean => {
    if (position < durable_end) return true;
    if (behind === null || position >= behind.batch) behind = headersBehind(bytes, position, seed);
    return position < behind.batch;
  };

  while (!sealed && at < bytes.length) {
    const sound = readRecordHeader(bytes, at, at, seed, header);
    const unlinked = sound && chained && header.link !== link;
    const fault = !sound ? 'header' : unlinked ? 'link' : bodyFault(bytes, at, header);
    if (fault !== null) {
      // What does not link up may be sound itself: what is lost lies before it, and nobody knows its key. A mark or seal has none.
      const keyed = sound && !unlinked && (header.kind === RecordKind.entry || header.kind === RecordKind.state);
      const { group, instance } = keyed ? header : { group: null, instance: null };
      const place: FaultyPlace = { segment, offset: at, group, instance, fault };
      if (!wasDurable(at)) {
        torn = place;
        break;
      }
      corrupt.push(place);
    }
    chained = sound;
    if (!sound) {
      at = nextHeader(bytes, at + 8, seed, header);
      release();
      continue;
    }
    if (header.kind === EngineKind.seal) sealed = true;
    else if (header.kind !== EngineKind.mark) held.push(toScanned(header, at, fault !== null));
    at += recordBytes(header.body_bytes);
    link = header.header_crc;
    if ((header.flags & FLAG_CONTINUES) !== 0) continue;
    release();
  }
  // A file that was cut by a former version, or just so, goes on behind its end.
  const goes_on = !sealed && (at < bytes.length || (at === bytes.length && chained && at >= durable_end));
  if (!goes_on) {
    // Only a sealed segment has a successor, or is full: an end without a seal means that records are missing.
    if (!sealed && chained) corrupt.push({ segment, offset: at, group: null, instance: null, fault: 'no seal' });
    release();
    return { end: at, link, ended: true, torn_bytes: 0, torn: null, sealed, corrupt };
  }
  const torn_bytes = tornEnd(bytes, appendStart, at, seed) - appendStart;
  if (torn_bytes === 0) torn = null;
  return { end: appendStart, link: appendLink, ended: false, torn_bytes, torn, sealed, corrupt };
}

/**
 * Offsets of the sound record headers of a segment in [from, through), each read into `header`; what is unreadable
 * between them is left out. Ends behind a seal.
 */
export function* headersOf(
  bytes: Buffer,
  seed: number,
  from: number,
  through: number,
  header: RecordHeader,
): Generator<number, void, void> {
  let at = from;
  while (at < through) {
    if (!readRecordHeader(bytes, at, at, seed, header)) at = nextHeader(bytes, at + 8, seed, header);
    if (at >= through) return;
    const next = at + recordBytes(header.body_bytes);
    const last = header.kind === EngineKind.seal;
    yield at;
    if (last) return;
    at = next;
  }
}

function toScanned(header: RecordHeader, offset: number, damaged: boolean): ScannedRecord {
  const { kind, group, instance, body_bytes } = header;
  return { kind, group, instance, offset, body_bytes, damaged };
}

function bodyFault(bytes: Buffer, at: number, header: RecordHeader): Fault | null {
  const start = at + RECORD_HEADER_BYTES;
  const end = start + header.body_bytes;
  const padded = at + recordBytes(header.body_bytes);
  if (padded > bytes.length) return 'length';
  if (crc32c(bytes, start, end) !== header.body_crc) return 'body';
  for (let padding = end; padding < padded; padding++) if (bytes[padding] !== 0) return 'padding';
  return null;
}

/** Position of the next sound header at `from` or behind, or the end of the bytes. */
function nextHeader(bytes: Buffer, from: number, seed: number, header: RecordHeader): number {
  for (let at = from; at + RECORD_HEADER_BYTES <= bytes.length; at += 8) {
    if (readRecordHeader(bytes, at, at, seed, header)) return at;
  }
  return bytes.length;
}

interface HeadersBehind {
  /** Highest batch start that one of them names, or the position: all before was durable. */
  readonly batch: number;
  /** End of the last of them, or the position. */
  readonly end: number;
}

/** The sound headers behind `position`. */
function headersBehind(bytes: Buffer, position: number, seed: number): HeadersBehind {
  const header = emptyHeader();
  let at = nextHeader(bytes, position + 8, seed, header);
  let batch = position;
  let end = position;
  while (at < bytes.length) {
    batch = Math.max(batch, header.batch);
    end = at + RECORD_HEADER_BYTES;
    at = nextHeader(bytes, at + 8, seed, header);
  }
  return { batch, end };
}

/** End of the last sound header that was never durable; the records from `start` to `bad` are such, too. */
function tornEnd(bytes: Buffer, start: number, bad: number, seed: number): number {
  const { end } = headersBehind(bytes, bad, seed);
  if (end > bad) return end;
  const header = emptyHeader();
  const badHeaderIsSound = readRecordHeader(bytes, bad, bad, seed, header);
  return badHeaderIsSound ? bad + RECORD_HEADER_BYTES : Math.max(start, bad);
}
