/** The bytes of the log, as tabled in docs/on-disk-format.md. All numbers are little-endian. */
import { assert, PhxError } from '../errors.js';
import { crc32c, crc32cOfView, crc32cU32 } from './crc32c.js';
import { RecordKind } from './engine.js';

export const FORMAT_VERSION = 2;
/** Oldest version that is still read. */
const FORMAT_VERSION_MIN = 1;
export const IDENTITY_BYTES = 16;

/** The header has a block of its own, so that no torn write of a record can damage it. Records start behind it. */
export const SEGMENT_HEADER_BYTES = 4096;
const SEGMENT_HEADER_USED_BYTES = 56;
const SEGMENT_MAGIC = Buffer.from('PHXQWAL\n', 'latin1');

export const SEGMENT_BYTES_DEFAULT = 32 * 1024 * 1024;
export const SEGMENT_BYTES_MIN = 8 * 1024;
export const SEGMENT_BYTES_MAX = 1024 * 1024 * 1024;
export const SEGMENT_ID_MAX = 0xffff_ffff;

export const RECORD_HEADER_BYTES = 40;
const RECORD_MARKER_LOW = 0x51;
const RECORD_MARKER_HIGH = 0x50;
const RECORD_MARKER = RECORD_MARKER_LOW | (RECORD_MARKER_HIGH << 8);

const GROUP_MAX = 0xffff_ffff;

/** Kinds that only the engine writes; the kinds of engine.ts are 1 and 2. */
export const EngineKind = {
  /** Last record of a segment that is full: whatever follows in the file is meaningless. */
  seal: 3,
  /** Version 1 only: written at a clean close. */
  mark: 4,
} as const;

/** The next record belongs to the same append: all of them or none. */
export const FLAG_CONTINUES = 1;

const KIND_MAX = 4;
const TWO_32 = 0x1_0000_0000;

/** The fields of a record header. Reused by its readers, hence mutable. */
export interface RecordHeader {
  kind: number;
  flags: number;
  group: number;
  instance: number;
  body_bytes: number;
  /** Offset in the segment at which the group commit of this record began: all before it was durable by then. */
  batch: number;
  /** Checksum of the header before; of the first record of a segment: the segment's seed. */
  link: number;
  body_crc: number;
  header_crc: number;
}

export function emptyHeader(): RecordHeader {
  return { kind: 0, flags: 0, group: 0, instance: 0, body_bytes: 0, batch: 0, link: 0, body_crc: 0, header_crc: 0 };
}

/** States what every caller must keep to. */
export function checkKey(kind: number, group: number, instance: number): void {
  assert(kind === RecordKind.entry || kind === RecordKind.state, 'kind is entry or state');
  assert(Number.isSafeInteger(group) && group >= 0 && group <= GROUP_MAX, 'group is an integer from 0 to 2^32 - 1');
  assert(Number.isSafeInteger(instance) && instance >= 0, 'instance is an integer from 0 to 2^53 - 1');
}

/** Bytes that a record with a body of `body_bytes` takes: header, body, padding to 8. */
export function recordBytes(body_bytes: number): number {
  return RECORD_HEADER_BYTES + Math.ceil(body_bytes / 8) * 8;
}

/** Start of every checksum of a segment: what carries another id or identity never passes as a record of this one. */
export function segmentSeed(identity: Uint8Array, segment: number): number {
  return crc32cU32(0, crc32cU32(segment, crc32c(identity)));
}

/** Writes a record header at `at` of `target`, for the position `offset` of the segment; returns its checksum. */
export function writeRecordHeader(
  target: DataView,
  at: number,
  offset: number,
  seed: number,
  header: Omit<RecordHeader, 'header_crc'>,
): number {
  target.setUint16(at, RECORD_MARKER, true);
  target.setUint8(at + 2, header.kind);
  target.setUint8(at + 3, header.flags);
  target.setUint32(at + 4, header.group, true);
  target.setUint32(at + 8, header.instance % TWO_32, true);
  target.setUint32(at + 12, Math.floor(header.instance / TWO_32), true);
  target.setUint32(at + 16, header.body_bytes, true);
  target.setUint32(at + 20, header.batch, true);
  target.setUint32(at + 24, header.link, true);
  target.setUint32(at + 28, header.body_crc, true);
  target.setUint32(at + 32, 0, true);
  const crc = crc32cOfView(target, at, at + 36, crc32cU32(offset, seed));
  target.setUint32(at + 36, crc, true);
  return crc;
}

/** Reads the fields without checking them: only for bytes that this process framed itself. */
export function decodeRecordHeader(source: Buffer, at: number, out: RecordHeader): void {
  out.kind = source[at + 2] ?? 0;
  out.flags = source[at + 3] ?? 0;
  out.group = source.readUInt32LE(at + 4);
  out.instance = source.readUInt32LE(at + 8) + source.readUInt32LE(at + 12) * TWO_32;
  out.body_bytes = source.readUInt32LE(at + 16);
  out.batch = source.readUInt32LE(at + 20);
  out.link = source.readUInt32LE(at + 24);
  out.body_crc = source.readUInt32LE(at + 28);
  out.header_crc = source.readUInt32LE(at + 36);
}

/**
 * Reads the header at `at` of `source`, which lies at `offset` of the segment. False where there is no header of this
 * segment and position. A sound header of a kind or with flags that this version does not know is refused, not skipped.
 *
 * @throws PhxError LOG_FORMAT for a sound header of an unknown kind
 */
export function readRecordHeader(source: Buffer, at: number, offset: number, seed: number, out: RecordHeader): boolean {
  if (source[at] !== RECORD_MARKER_LOW || source[at + 1] !== RECORD_MARKER_HIGH) return false;
  if (at + RECORD_HEADER_BYTES > source.length) return false;
  if (crc32c(source, at, at + 36, crc32cU32(offset, seed)) !== source.readUInt32LE(at + 36)) return false;
  decodeRecordHeader(source, at, out);
  if (out.kind < 1 || out.kind > KIND_MAX || out.flags > FLAG_CONTINUES || source.readUInt32LE(at + 32) !== 0) {
    throw new PhxError('LOG_FORMAT', `log record of unknown kind ${out.kind}, flags ${out.flags}: newer software?`);
  }
  return true;
}

export function encodeSegmentHeader(identity: Uint8Array, segment: number, segment_bytes: number): Buffer {
  const block = Buffer.alloc(SEGMENT_HEADER_BYTES);
  block.set(SEGMENT_MAGIC, 0);
  block.writeUInt32LE(FORMAT_VERSION, 8);
  block.writeUInt32LE(SEGMENT_HEADER_BYTES, 12);
  block.set(identity, 16);
  block.writeUInt32LE(segment, 32);
  block.writeUInt32LE(segment_bytes, 40);
  block.writeUInt32LE(crc32c(block, 0, SEGMENT_HEADER_USED_BYTES - 4), SEGMENT_HEADER_USED_BYTES - 4);
  return block;
}

/** What a sound segment header says. */
export interface SegmentHeader {
  readonly version: number;
  readonly identity: Buffer;
  readonly segment: number;
  readonly segment_bytes: number;
}

/**
 * Reads the first block of a segment file; null if it is damaged.
 *
 * @throws PhxError LOG_FORMAT for a sound header of an unknown version
 */
export function readSegmentHeader(block: Buffer): SegmentHeader | null {
  if (block.length < SEGMENT_HEADER_BYTES) return null;
  const crc = crc32c(block, 0, SEGMENT_HEADER_USED_BYTES - 4);
  if (!block.subarray(0, SEGMENT_MAGIC.length).equals(SEGMENT_MAGIC)) return null;
  if (crc !== block.readUInt32LE(SEGMENT_HEADER_USED_BYTES - 4)) return null;
  const version = block.readUInt32LE(8);
  if (version < FORMAT_VERSION_MIN || version > FORMAT_VERSION) {
    throw new PhxError('LOG_FORMAT', `log format version ${version} is not known`);
  }
  if (block.subarray(SEGMENT_HEADER_USED_BYTES, SEGMENT_HEADER_BYTES).some((byte) => byte !== 0)) return null;
  if (block.readUInt32LE(36) !== 0) return null;
  const identity = Buffer.from(block.subarray(16, 16 + IDENTITY_BYTES));
  return { version, identity, segment: block.readUInt32LE(32), segment_bytes: block.readUInt32LE(40) };
}

/**
 * The same, of this segment; null if it is damaged or that of another one.
 *
 * @throws PhxError LOG_IDENTITY for a sound header of another identity, LOG_CORRUPT for one of an unknown version
 */
export function checkSegmentHeader(block: Buffer, identity: Uint8Array, segment: number): SegmentHeader | null {
  const header = readSegmentHeader(block);
  if (header === null) return null;
  checkIdentity(header.identity, identity);
  return header.segment === segment ? header : null;
}

/** @throws PhxError LOG_IDENTITY if they differ */
export function checkIdentity(found: Buffer, own: Uint8Array): void {
  if (found.equals(own)) return;
  const [theirs, ours] = [found.toString('hex'), Buffer.from(own).toString('hex')];
  throw new PhxError('LOG_IDENTITY', `the log belongs to identity ${theirs}, not to ${ours}`);
}

const SEGMENT_NAME = /^(\d{10})\.seg$/;

/** File name of a segment: its id in ten digits. */
export function segmentName(segment: number): string {
  return `${String(segment).padStart(10, '0')}.seg`;
}

/** Name of the spare: a segment that is prepared and not yet part of the log. */
export function spareSegmentName(segment: number): string {
  return `${segmentName(segment)}.new`;
}

/** Name of a segment that was removed from the log, whose file waits to become a spare. */
export function retiredSegmentName(segment: number): string {
  return `${segmentName(segment)}.old`;
}

/** Id of a segment by its file name, or null for any other file. */
export function segmentOfName(name: string): number | null {
  const match = SEGMENT_NAME.exec(name);
  const segment = Number(match?.[1] ?? 0);
  return segment >= 1 && segment <= SEGMENT_ID_MAX ? segment : null;
}

/** Id in the name of a spare, or null for any other file. */
export function segmentOfSpareName(name: string): number | null {
  return name.endsWith('.seg.new') ? segmentOfName(name.slice(0, -4)) : null;
}

/** Id in the name of a retired segment, or null for any other file. */
export function segmentOfRetiredName(name: string): number | null {
  return name.endsWith('.seg.old') ? segmentOfName(name.slice(0, -4)) : null;
}
