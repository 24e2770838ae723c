/**
 * What the log does beside writing, without holding it up: removes dead segments, prepares the spare, moves what lives out
 * of sparse segments, and keeps the high-water marks.
 */
import { AssertionError } from '../errors.js';
import { type AppendQueue, RecordKeys } from './append_queue.js';
import type { LogContents, Segment } from './contents.js';
import { type LogRecord, RecordKind } from './engine.js';
import { isLackOfDescriptors, isLackOfSpace, type LogFiles } from './files.js';
import { recordBytes } from './format.js';
import { type LogPosition, type Marks, type MarksRecord, SEGMENTS_MAX } from './marks.js';
import { SegmentReader } from './segment_reader.js';
import type { SpareSegments } from './spare_segments.js';

/** The marks lag behind the log by this at most. */
const MARKS_INTERVAL_MS = 200;
/** After an attempt that failed for lack of space. */
const SPACE_RETRY_MS = 1000;
/** Bytes of records that are copied by one batch. */
const COPY_BYTES_MAX = 1024 * 1024;

/** Calls `run` once after `delay_ms`; the result cancels it. The process may end before. */
export type Later = (delay_ms: number, run: () => void) => () => void;

/** The log as its keeper sees it. */
export interface KeptLog {
  readonly files: LogFiles;
  readonly folder: string;
  readonly identity: Uint8Array;
  readonly contents: LogContents;
  readonly queue: AppendQueue;
  readonly spares: SpareSegments;
  readonly marks: Marks;
  /** Segments that are gone; the marks go on listing them. */
  readonly missing: readonly number[];
  readonly marks_lost: boolean;
  /** The segment being written. */
  readonly active: number;
  /** All before it is durable. Where appends are not synced it lags behind. */
  readonly durable: LogPosition;
  /** Adds the keys of the batch that is being written. */
  addKeysInWork(keys: RecordKeys): void;
  /**
   * Syncs what is written where appends are not synced: before a segment is begun, so that only the newest one may lose
   * records, before segments are removed whose records were moved, and before a clean close.
   */
  syncWritten(): Promise<void>;
  /** A spare is there, or there is no space for one. */
  spareChanged(): void;
  /** There is something in the queue. */
  wakeWriter(): void;
  /** The log is poisoned. */
  fail(error: unknown): void;
}

export class Keeper {
  rewritten_bytes = 0;
  private readonly log: KeptLog;
  private readonly later: Later;
  private low = false;
  /** While `low`: it is time to try again. An attempt is no room yet. */
  private retry_due = false;
  private running = false;
  private stopped = false;
  private woken = false;
  private marked: LogPosition;
  private marks_due = false;
  private cancelMarks: (() => void) | null = null;
  private cancelRetry: (() => void) | null = null;
  private rewriting: Rewriting | null = null;
  /** Copies that are not durable yet. */
  private copying = false;
  private waiters: (() => void)[] = [];

  /** `low_on_space`: opening has just tried to make a segment, in vain. */
  constructor(log: KeptLog, later: Later, low_on_space: boolean) {
    this.log = log;
    this.later = later;
    this.marked = log.durable;
    if (low_on_space) this.lackSpace();
  }

  /** There is no spare, and no space for one. */
  get low_on_space(): boolean {
    return this.low;
  }

  get busy(): boolean {
    return this.running;
  }

  /** Writes the marks without waiting for their time. */
  writeMarksSoon(): void {
    this.marks_due = true;
    this.wake();
  }

  /** Looks for something to do. Call it when a batch is durable, a segment was begun, or records died. */
  wake(): void {
    this.woken = true;
    if (!this.running && !this.stopped) void this.run();
    if (this.cancelMarks !== null || this.stopped || samePosition(this.marked, this.log.durable)) return;
    this.cancelMarks = this.later(MARKS_INTERVAL_MS, () => {
      this.cancelMarks = null;
      this.marks_due = true;
      this.wake();
    });
  }

  /** Resolves when it has nothing to do, or something of that kind happened: look again. */
  async changed(): Promise<void> {
    if (!this.running) return;
    await new Promise<void>((resolve) => {
      this.waiters.push(resolve);
    });
  }

  /** The step that is being done is the last. */
  halt(): void {
    this.stopped = true;
    this.cancelMarks?.();
    this.cancelRetry?.();
  }

  /** Resolves when the step that is being done is done; no other follows. */
  async stop(): Promise<void> {
    this.halt();
    while (this.running) await this.changed();
  }

  /** What the marks should say. */
  marksRecord(without: readonly Segment[] = []): MarksRecord {
    const { contents, missing, marks_lost, durable } = this.log;
    const removed = new Set(without.map(({ id }) => id));
    const segments = [...contents.segments.keys(), ...missing].filter((id) => !removed.has(id));
    return { durable, segments: segments.sort((a, b) => a - b), clean: false, lost: marks_lost };
  }

  private async run(): Promise<void> {
    this.running = true;
    try {
      // What else happens in this turn is seen at once.
      await Promise.resolve();
      while (!this.stopped && (await this.step())) this.tell();
    } catch (error) {
      this.log.fail(error);
    }
    this.running = false;
    this.tell();
  }

  private tell(): void {
    const waiters = this.waiters;
    this.waiters = [];
    for (const resolve of waiters) resolve();
  }

  /** Does one thing; false if there is nothing to do. */
  private async step(): Promise<boolean> {
    this.woken = false;
    const did =
      (await this.removeDead()) || (await this.prepareSpare()) || (await this.copyLive()) || (await this.writeMarks());
    return did || this.woken;
  }

  private async removeDead(): Promise<boolean> {
    const { contents, active, files, folder, marks, spares } = this.log;
    const dead: Segment[] = [];
    for (const segment of contents.deadBefore(active)) if (await isFree(segment)) dead.push(segment);
    if (dead.length === 0) return false;
    // What was moved out of them must be durable.
    await this.log.syncWritten();
    // First the marks: a file that they list and that is gone is a loss.
    const record = this.marksRecord(dead);
    await marks.write(record);
    this.marked = record.durable;
    for (const segment of dead) {
      if (segment === this.rewriting?.segment) this.rewriting = null;
      contents.removeSegment(segment);
      segment.retired = true;
      const reusable = segment.readers === 0;
      if (reusable) await segment.file.close();
      await spares.retire(segment.id, segment.size_bytes, reusable);
    }
    await files.syncFolder(folder);
    // What they took may be enough.
    this.retry_due = true;
    return true;
  }

  private async prepareSpare(): Promise<boolean> {
    const { spares, active, contents } = this.log;
    if (spares.has(active + 1) || (this.low && !this.retry_due)) return false;
    this.retry_due = false;
    if (contents.segments.size + this.log.missing.length >= SEGMENTS_MAX) {
      this.lackSpace();
      return true;
    }
    try {
      await spares.prepare(active + 1);
      this.low = false;
      this.log.spareChanged();
    } catch (error) {
      if (!isLackOfSpace(error)) throw error;
      this.lackSpace();
    }
    return true;
  }

  private lackSpace(): void {
    this.low = true;
    this.log.spareChanged();
    this.cancelRetry?.();
    this.cancelRetry = this.later(SPACE_RETRY_MS, () => {
      this.cancelRetry = null;
      this.retry_due = true;
      this.wake();
    });
  }

  /** Appends a portion of what lives in a sparse segment again. The next portion follows when it is durable. */
  private async copyLive(): Promise<boolean> {
    const { contents, active, identity } = this.log;
    if (this.copying) return false;
    if (this.rewriting === null) {
      // Where entries die in the order in which they came, only the oldest segment is sparse, and soon dead.
      const slack_bytes = this.low ? 0 : contents.segment(active).size_bytes;
      const segment = contents.sparseBefore(active, slack_bytes);
      if (segment === null) return false;
      const reader = new SegmentReader(segment.file, segment.id, identity, segment.size_bytes);
      this.rewriting = { segment, reader, skipped: false };
    }
    const { segment, reader, skipped } = this.rewriting;
    const portion = await this.readPortion(segment, reader);
    if (portion === null) {
      this.rewriting = null;
      return false;
    }
    if (portion.length > 0) return this.copy(this.rewriting, portion);
    this.rewriting = null;
    // What still lives there should have been found.
    if (segment.live_records > 0 && segment.damaged.size === 0 && !skipped) contents.noteUnreadable(segment);
    return segment.live_records === 0;
  }

  /** The next live records of the segment, until there are enough for one batch; null if no descriptor is left. */
  private async readPortion(segment: Segment, reader: SegmentReader): Promise<CopiedRecord[] | null> {
    const { contents } = this.log;
    const portion: CopiedRecord[] = [];
    let bytes = 0;
    while (bytes < COPY_BYTES_MAX) {
      const record = await reader.next((found) => contents.isLive(found)).catch(unlessDefect);
      if (isLackOfDescriptors(record)) return null;
      if (record instanceof Error) {
        // Cannot be read: neither copied nor dropped, the segment stays.
        contents.noteUnreadable(segment);
        break;
      }
      if (record === null) break;
      const { kind, group, instance, offset } = record;
      // A state record is copied from memory: there it is known to be good.
      const state = kind === RecordKind.state ? (contents.states.place(group, instance)?.body ?? null) : null;
      const body = kind === RecordKind.state ? state : record.body;
      if (body === null) {
        contents.noteDamaged(segment, offset);
        break;
      }
      portion.push({ kind: record.kind, group, instance, body: [body], offset });
      bytes += recordBytes(body.length);
    }
    return portion;
  }

  private copy(rewriting: Rewriting, portion: readonly CopiedRecord[]): boolean {
    const { contents, queue } = this.log;
    const { segment } = rewriting;
    // The log is closed: nobody would wait for the copies.
    if (this.stopped) return false;
    const waiting = new RecordKeys();
    queue.addKeysTo(waiting);
    this.log.addKeysInWork(waiting);
    const living = portion.filter((record) => contents.isLive({ ...record, segment: segment.id, body_bytes: 0 }));
    // A successor that is on its way must stay the later one.
    const copies = living.filter((record) => !waiting.has(record));
    if (copies.length < living.length) rewriting.skipped = true;
    if (copies.length === 0) return true;
    const bytes = copies.reduce((sum, { body }) => sum + recordBytes(body[0]?.length ?? 0), 0);
    // The rest of the newest segment is spent only on what frees a segment.
    if (this.low && !queue.fits(segment.live_bytes)) {
      this.rewriting = null;
      return false;
    }
    this.rewritten_bytes += bytes;
    this.copying = true;
    queue.appendCopies(copies, segment.id, () => {
      this.copying = false;
      this.wake();
    });
    this.log.wakeWriter();
    return true;
  }

  private async writeMarks(): Promise<boolean> {
    if (!this.marks_due) return false;
    this.marks_due = false;
    const record = this.marksRecord();
    await this.log.marks.write(record);
    this.marked = record.durable;
    return true;
  }
}

function unlessDefect(error: unknown): Error {
  if (error instanceof AssertionError) throw error;
  return error instanceof Error ? error : new Error(String(error));
}

/** Whether the name of the segment's file may go: nobody reads it, or whoever does can go on. */
async function isFree({ file, readers }: Segment): Promise<boolean> {
  if (readers === 0) return true;
  try {
    await file.hold();
    return true;
  } catch (error) {
    unlessDefect(error);
    return false;
  }
}

interface Rewriting {
  readonly segment: Segment;
  readonly reader: SegmentReader;
  /** A record was left because its successor is on its way. */
  skipped: boolean;
}

interface CopiedRecord extends LogRecord {
  readonly offset: number;
}

function samePosition(a: LogPosition, b: LogPosition): boolean {
  return a.segment === b.segment && a.offset === b.offset;
}
