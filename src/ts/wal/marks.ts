/**
 * The high-water marks: which segments there must be, and up to where the log is durable. They tell a torn tail from damage
 * within the last batch, and notice a segment file that is gone. Two copies, written in turn (docs/on-disk-format.md).
 */
import { join } from 'node:path';
import { assert } from '../errors.js';
import { crc32c } from './crc32c.js';
import type { LogFile, LogFiles } from './files.js';
import { checkIdentity, IDENTITY_BYTES } from './format.js';

export const MARKS_NAME = 'marks';
/** Name of the file until its first copy is durable. */
export const UNFINISHED_MARKS_NAME = 'marks.new';

/** Most segments that the marks can list; the log grows no further. */
export const SEGMENTS_MAX = 16_000;

const SLOTS = 2;
const SLOT_BYTES = 65_536;
/** Size of the file. */
export const MARKS_BYTES = SLOTS * SLOT_BYTES;
const HEAD_BYTES = 56;
const MARKS_VERSION = 2;
const MAGIC = Buffer.from('PHXQMRK\n', 'latin1');
const FLAG_CLEAN = 1;
const FLAG_LOST = 2;

/** Behind the first copy, in one sector: a crash tears it nowhere. */
export const OPENED_AT = SLOT_BYTES - 512;
const OPENED_BYTES = 20;
const OPENED_MAGIC = Buffer.from('PHXQOPN\n', 'latin1');

/** A position of the log: all before it. */
export interface LogPosition {
  readonly segment: number;
  readonly offset: number;
}

/** What a copy says. */
export interface MarksRecord {
  /** All records before it are durable. */
  readonly durable: LogPosition;
  /** Ids of the segments, ascending. */
  readonly segments: readonly number[];
  /** Written by a clean close. */
  readonly clean: boolean;
  /** Marks were missing or unreadable once: nobody knows what else is. */
  readonly lost: boolean;
}

/** One of the two copies. */
export interface MarksCopy extends MarksRecord {
  readonly sequence: number;
}

interface Slot {
  readonly identity: Buffer;
  readonly copy: MarksCopy;
}

/** What reading the file found. */
export interface FoundMarks {
  /** The newest sound copy, or null. */
  readonly record: MarksRecord | null;
  /** Unreadable copies that a crash does not explain. */
  readonly damaged: number;
  readonly sequence: number;
}

/** The file of an open log. */
export class Marks {
  private readonly file: LogFile;
  private readonly identity: Uint8Array;
  private sequence: number;
  /** Both copies are of a clean close. */
  private was_clean: boolean;

  private constructor(file: LogFile, identity: Uint8Array, sequence: number, was_clean: boolean) {
    this.file = file;
    this.identity = identity;
    this.sequence = sequence;
    this.was_clean = was_clean;
  }

  /** Makes the file, with one copy of `record`. */
  static async create(files: LogFiles, folder: string, identity: Uint8Array, record: MarksRecord): Promise<Marks> {
    const unfinished = join(folder, UNFINISHED_MARKS_NAME);
    const file = await files.create(unfinished);
    const marks = new Marks(file, identity, 0, false);
    try {
      await file.write([Buffer.alloc(MARKS_BYTES)], 0);
      await marks.write(record);
      await files.rename(unfinished, join(folder, MARKS_NAME));
      await files.syncFolder(folder);
      return marks;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Opens the file that is there. The copy that holds is durable when this resolves: it is written again where it is, because
   * it may have been read from memory whose sync never came or failed.
   *
   * @throws PhxError LOG_IDENTITY if it belongs to another identity
   */
  static async open(
    files: LogFiles,
    folder: string,
    identity: Uint8Array,
  ): Promise<{ marks: Marks; found: FoundMarks }> {
    const file = await files.open(join(folder, MARKS_NAME));
    try {
      const bytes = Buffer.alloc(MARKS_BYTES);
      await file.read(bytes, 0);
      const found = readMarks(bytes, identity);
      if (found.record !== null) {
        await file.write([encodeSlot(identity, found.record, found.sequence)], slotStart(found.sequence));
        await file.sync();
      }
      return { marks: new Marks(file, identity, found.sequence, found.record?.clean === true), found };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Writes a copy, durable when this resolves. One call at a time. */
  async write(record: MarksRecord): Promise<void> {
    if (this.was_clean) {
      // One of them is about to be written over: that it is unreadable after a crash is no damage.
      await this.file.write([encodeOpened(this.sequence)], OPENED_AT);
      await this.file.sync();
      this.was_clean = false;
    }
    this.sequence++;
    const bytes = encodeSlot(this.identity, record, this.sequence);
    await this.file.write([bytes], slotStart(this.sequence));
    await this.file.sync();
  }

  /** Writes both copies: what one of them loses from now on is damage. */
  async writeClean(record: MarksRecord): Promise<void> {
    for (let slot = 0; slot < SLOTS; slot++) await this.write({ ...record, clean: true });
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

/** Where the copy with this number is. */
function slotStart(sequence: number): number {
  return (sequence % SLOTS) * SLOT_BYTES;
}

/**
 * Reads the bytes of the file.
 *
 * @throws PhxError LOG_IDENTITY if a copy belongs to another identity
 */
export function readMarks(bytes: Buffer, identity: Uint8Array): FoundMarks {
  const sound: MarksCopy[] = [];
  for (const slot of readSlots(bytes)) {
    if (slot === null) continue;
    checkIdentity(slot.identity, identity);
    sound.push(slot.copy);
  }
  sound.sort((a, b) => b.sequence - a.sequence);
  const newest = sound[0] ?? null;
  const damaged = crashExplains(bytes, newest) ? 0 : SLOTS - sound.length;
  return { record: newest, damaged, sequence: newest?.sequence ?? 0 };
}

/** Whether a copy beside the newest sound one may be unreadable because a crash cut its write short. */
export function crashExplains(bytes: Buffer, newest: MarksCopy | null): boolean {
  return newest !== null && (!newest.clean || readOpened(bytes) === newest.sequence);
}

/** The copies in the bytes of the file, null where there is no sound one, each with the identity that it belongs to. */
export function readSlots(bytes: Buffer): readonly (Slot | null)[] {
  return Array.from({ length: SLOTS }, (_, slot) => {
    return readSlot(bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES));
  });
}

/** Whether a place for a copy was never written. */
export function slotIsBlank(bytes: Buffer, slot: number): boolean {
  return bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES).every((byte) => byte === 0);
}

/** Says that the log was opened whose clean copy has this number. */
function encodeOpened(sequence: number): Buffer {
  const bytes = Buffer.alloc(OPENED_BYTES);
  bytes.set(OPENED_MAGIC, 0);
  bytes.writeBigUInt64LE(BigInt(sequence), 8);
  bytes.writeUInt32LE(crc32c(bytes, 0, 16), 16);
  return bytes;
}

function readOpened(bytes: Buffer): number | null {
  const opened = bytes.subarray(OPENED_AT, OPENED_AT + OPENED_BYTES);
  const sound = opened.subarray(0, 8).equals(OPENED_MAGIC) && crc32c(opened, 0, 16) === opened.readUInt32LE(16);
  return sound ? Number(opened.readBigUInt64LE(8)) : null;
}

function encodeSlot(identity: Uint8Array, record: MarksRecord, sequence: number): Buffer {
  const { durable, segments, clean, lost } = record;
  assert(segments.length <= SEGMENTS_MAX, 'the marks list all segments');
  const crc_at = HEAD_BYTES + 4 * segments.length;
  const bytes = Buffer.alloc(crc_at + 4);
  bytes.set(MAGIC, 0);
  bytes.writeUInt32LE(MARKS_VERSION, 8);
  bytes.writeUInt32LE(segments.length, 12);
  bytes.set(identity, 16);
  bytes.writeBigUInt64LE(BigInt(sequence), 32);
  bytes.writeUInt32LE(durable.segment, 40);
  bytes.writeUInt32LE(durable.offset, 44);
  bytes.writeUInt32LE((clean ? FLAG_CLEAN : 0) | (lost ? FLAG_LOST : 0), 48);
  segments.forEach((segment, index) => {
    bytes.writeUInt32LE(segment, HEAD_BYTES + 4 * index);
  });
  bytes.writeUInt32LE(crc32c(bytes, 0, crc_at), crc_at);
  return bytes;
}

function readSlot(bytes: Buffer): Slot | null {
  assert(bytes.length === SLOT_BYTES, 'a copy has its size');
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC) || bytes.readUInt32LE(8) !== MARKS_VERSION) return null;
  const count = bytes.readUInt32LE(12);
  if (count > SEGMENTS_MAX) return null;
  const crc_at = HEAD_BYTES + 4 * count;
  if (crc32c(bytes, 0, crc_at) !== bytes.readUInt32LE(crc_at)) return null;
  const flags = bytes.readUInt32LE(48);
  const copy: MarksCopy = {
    sequence: Number(bytes.readBigUInt64LE(32)),
    durable: { segment: bytes.readUInt32LE(40), offset: bytes.readUInt32LE(44) },
    segments: Array.from({ length: count }, (_, index) => bytes.readUInt32LE(HEAD_BYTES + 4 * index)),
    clean: (flags & FLAG_CLEAN) !== 0,
    lost: (flags & FLAG_LOST) !== 0,
  };
  return { identity: Buffer.from(bytes.subarray(16, 16 + IDENTITY_BYTES)), copy };
}
