/** How opening finds out from the files of the folder what the log of the portable engine holds. */
import { join } from 'node:path';
import { assert } from '../errors.js';
import type { LogTail } from './append_queue.js';
import { LogContents } from './contents.js';
import { type CorruptRecord, RecordKind, type RecoveryReport } from './engine.js';
import { isLackOfSpace, type LogFile, type LogFiles } from './files.js';
import {
  checkSegmentHeader,
  EngineKind,
  FORMAT_VERSION,
  RECORD_HEADER_BYTES,
  recordBytes,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  segmentName,
  segmentOfName,
  segmentSeed,
  writeRecordHeader,
} from './format.js';
import { type FoundMarks, MARKS_NAME, Marks, type MarksRecord, SEGMENTS_MAX, UNFINISHED_MARKS_NAME } from './marks.js';
import { OpenFiles, type SegmentFile } from './segment_file.js';
import { durableEnd, listSegments } from './segment_list.js';
import { type ScannedRecord, scanSegment } from './segment_scan.js';
import { type SpareOptions, SpareSegments } from './spare_segments.js';

/** Torn bytes are wiped in writes of this size. */
const WIPE_BYTES = 1024 * 1024;

export interface RecoveredLog {
  readonly contents: LogContents;
  readonly open_files: OpenFiles;
  readonly spares: SpareSegments;
  readonly marks: Marks;
  readonly report: Omit<RecoveryReport, 'elapsed_ms'>;
  readonly tail: LogTail;
  /** Segments that the marks list and that are gone. */
  readonly missing: readonly number[];
  /** The marks themselves were lost, now or at an earlier opening. */
  readonly marks_lost: boolean;
}

/**
 * Reads all segments of the folder, oldest first, and wipes a torn tail. All that it returns is durable; the log goes on at
 * `tail`, whose segment is there. It is a sealed one if there is no space for another.
 *
 * @throws PhxError LOG_IDENTITY if a file belongs to another identity, LOG_FORMAT if its format is unknown, and
 *   whatever `files` throws
 */
export async function recoverLog(files: LogFiles, options: SpareOptions): Promise<RecoveredLog> {
  const recovery = new Recovery(files, options);
  try {
    return await recovery.run();
  } catch (error) {
    await recovery.closeFiles();
    throw error;
  }
}

interface FoundSegment {
  readonly file: SegmentFile;
  readonly content: Buffer;
  readonly header: SegmentHeader | null;
}

class Recovery {
  private readonly files: LogFiles;
  private readonly options: SpareOptions;
  private readonly contents = new LogContents();
  private readonly open_files: OpenFiles;
  private readonly spares: SpareSegments;
  private marks: Marks | null = null;
  private readonly corrupt: CorruptRecord[] = [];
  private records = 0;
  private bytes = 0;
  private torn_bytes = 0;
  /** Holds one segment after the other. */
  private buffer = Buffer.alloc(0);

  constructor(files: LogFiles, options: SpareOptions) {
    this.files = files;
    this.options = options;
    this.open_files = new OpenFiles(files);
    this.spares = new SpareSegments(files, options);
  }

  async run(): Promise<RecoveredLog> {
    const { folder, identity } = this.options;
    const names = await this.files.list(folder);
    if (names.includes(UNFINISHED_MARKS_NAME)) await this.files.unlink(join(folder, UNFINISHED_MARKS_NAME));
    const found = names.includes(MARKS_NAME) ? await this.openMarks() : null;
    // So may the names have been read from memory only.
    if (names.some((name) => name === MARKS_NAME || segmentOfName(name) !== null)) await this.files.syncFolder(folder);
    const { ids, removed, missing } = listSegments(names, found?.record ?? null);
    for (const id of removed) await this.files.unlink(join(folder, segmentName(id)));
    for (const segment of missing) this.report(segment, 0);
    // Ids are never used twice, not even that of a segment that is missing.
    const next = 1 + Math.max(0, ids.at(-1) ?? 0, found?.record?.segments.at(-1) ?? 0);
    let tail = firstOf(identity, next);
    let sealed: LogTail | null = null;
    let versions = 0;
    for (const id of ids) {
      const { file, content, header } = await this.readSegment(id);
      versions = Math.max(versions, header?.version ?? FORMAT_VERSION);
      const durable_end = durableEnd(id, ids, found?.record ?? null);
      const scan = scanSegment(content, id, segmentSeed(identity, id), durable_end, (record) => {
        this.put(id, content, record);
      });
      this.noteCorrupt(id, scan.corrupt);
      if (id !== ids.at(-1)) {
        await file.release();
        continue;
      }
      this.torn_bytes = scan.torn_bytes;
      await wipe(file.writable, scan.end, scan.torn_bytes);
      const end: LogTail = { segment: id, offset: scan.end, link: scan.link, sealed: false };
      if (!scan.ended) tail = await this.goOn(file.writable, end, header, content, next);
      if (tail !== end && next === id + 1) sealed = { ...end, sealed: true };
      // Records that are not known to be durable may have been read from memory whose sync never came, or failed: then no other
      // sync would write them. The caller will build on them.
      const unsure = content.subarray(Math.max(durable_end, SEGMENT_HEADER_BYTES), scan.end);
      if (unsure.length > 0) await file.writable.write([unsure], scan.end - unsure.length);
      await file.writable.sync();
      if (tail !== end) await file.release();
    }
    const marks_lost =
      (found?.record?.lost ?? false) || ((found?.record ?? null) === null && versions >= FORMAT_VERSION);
    if (marks_lost) this.report(0, 0);
    const open = this.corrupt.filter((record) => !this.isSuperseded(record));
    const marks = await this.startMarks(missing, marks_lost);
    if (!(await this.startTail(names, tail.segment, missing.length, sealed === null))) tail = sealed ?? tail;
    await marks.write({ ...this.marksRecord(missing, marks_lost), durable: tail });
    const { contents, open_files, spares, records, bytes, torn_bytes } = this;
    const damaged_marks = found?.damaged ?? 0;
    const report = { segments: ids.length, records, bytes, torn_bytes, corrupt: open, damaged_marks };
    return { contents, open_files, spares, marks, report, tail, missing, marks_lost };
  }

  async closeFiles(): Promise<void> {
    await this.contents.closeFiles();
    await this.spares.close();
    await this.marks?.close();
  }

  private async openMarks(): Promise<FoundMarks> {
    const { marks, found } = await Marks.open(this.files, this.options.folder, this.options.identity);
    this.marks = marks;
    return found;
  }

  private async readSegment(id: number): Promise<FoundSegment> {
    const { folder, identity } = this.options;
    const path = join(folder, segmentName(id));
    const file = await this.files.open(path);
    const size_bytes = await file.size().catch(async (error: unknown) => {
      await file.close();
      throw error;
    });
    const segment_file = this.open_files.hold(path, file);
    this.contents.addSegment(id, segment_file, size_bytes);
    if (this.buffer.length < size_bytes) this.buffer = Buffer.from(new ArrayBuffer(size_bytes));
    const content = this.buffer.subarray(0, size_bytes);
    const filled = await file.read(content, 0);
    assert(filled === size_bytes, 'a file is read to its end');
    const header = checkSegmentHeader(content, identity, id);
    if (header === null) this.noteCorrupt(id, [{ segment: id, offset: 0, group: null, instance: null }]);
    return { file: segment_file, content, header };
  }

  private put(segment: number, content: Buffer, record: ScannedRecord): void {
    const { kind, offset, body_bytes, damaged } = record;
    this.records++;
    this.bytes += recordBytes(body_bytes);
    const start = offset + RECORD_HEADER_BYTES;
    const isState = kind === RecordKind.state && !damaged;
    const body = isState ? Buffer.from(content.subarray(start, start + body_bytes)) : null;
    this.contents.put({ ...record, segment }, body);
    if (damaged) this.contents.noteDamaged(this.contents.segment(segment), offset);
  }

  private noteCorrupt(id: number, corrupt: readonly CorruptRecord[]): void {
    for (const { segment, offset, group, instance } of corrupt) {
      this.corrupt.push({ segment, offset, group, instance });
      if (group === null) this.contents.noteUnreadable(this.contents.segment(id));
    }
  }

  private report(segment: number, offset: number): void {
    this.corrupt.push({ segment, offset, group: null, instance: null });
  }

  /**
   * The newest segment goes on where it ended if it is as one that is made now; another one is sealed, also one that holds
   * damage without a key, so that it can be rewritten.
   */
  private async goOn(
    file: LogFile,
    end: LogTail,
    header: SegmentHeader | null,
    content: Buffer,
    next: number,
  ): Promise<LogTail> {
    const { identity, segment_bytes } = this.options;
    const alike = header?.version === FORMAT_VERSION && header.segment_bytes === segment_bytes;
    const readable = this.contents.segment(end.segment).unreadable === 0;
    if (alike && readable && content.length === segment_bytes && next === end.segment + 1) return end;
    const seal = new DataView(new ArrayBuffer(RECORD_HEADER_BYTES));
    const { segment, offset, link } = end;
    const fields = { kind: EngineKind.seal, flags: 0, group: 0, instance: 0, body_bytes: 0, batch: offset, link };
    writeRecordHeader(seal, 0, offset, segmentSeed(identity, segment), { ...fields, body_crc: 0 });
    await file.write([new Uint8Array(seal.buffer)], offset);
    return firstOf(identity, next);
  }

  private async startMarks(missing: readonly number[], lost: boolean): Promise<Marks> {
    const { folder, identity } = this.options;
    this.marks ??= await Marks.create(this.files, folder, identity, this.marksRecord(missing, lost));
    return this.marks;
  }

  private marksRecord(missing: readonly number[], lost: boolean): MarksRecord {
    const segments = [...this.contents.segments.keys(), ...missing].sort((a, b) => a - b);
    return { durable: { segment: 0, offset: 0 }, segments, clean: false, lost };
  }

  /**
   * Takes over the files beside the log, and makes the segment that the log goes on in if it is a new one. False if there is
   * no space for it, unless it `must` be.
   */
  private async startTail(names: readonly string[], id: number, missing: number, must: boolean): Promise<boolean> {
    const { segments } = this.contents;
    const isNew = !segments.has(id);
    await this.spares.adopt(names, isNew ? id : id + 1);
    if (!isNew) return true;
    // The marks can list no more.
    if (!must && segments.size + missing >= SEGMENTS_MAX) return false;
    try {
      if (!this.spares.has(id)) await this.spares.prepare(id);
    } catch (error) {
      if (!must && isLackOfSpace(error)) return false;
      throw error;
    }
    const file = await this.spares.take(id);
    this.spares.taken();
    const { folder, segment_bytes } = this.options;
    this.contents.addSegment(id, this.open_files.hold(join(folder, segmentName(id)), file), segment_bytes);
    return true;
  }

  /** Whether a later record of the same key has taken the damaged one's place: then it is repaired. */
  private isSuperseded(record: CorruptRecord): boolean {
    const { segment, offset, group, instance } = record;
    if (group === null || instance === null) return false;
    const at = { group, instance, segment, offset, body_bytes: 0 };
    const isCurrent = (kind: number): boolean => this.contents.isLive({ kind, ...at });
    return !isCurrent(RecordKind.entry) && !isCurrent(RecordKind.state);
  }
}

function firstOf(identity: Uint8Array, segment: number): LogTail {
  return { segment, offset: SEGMENT_HEADER_BYTES, link: segmentSeed(identity, segment), sealed: false };
}

/** Writes zeros over a torn tail, not durable yet. */
export async function wipe(file: LogFile, start: number, bytes: number): Promise<void> {
  for (let at = start; at < start + bytes; at += WIPE_BYTES) {
    await file.write([Buffer.alloc(Math.min(WIPE_BYTES, start + bytes - at))], at);
  }
}
