/**
 * The log engine in TypeScript. Same files as the native one; used where there is no addon, and on a simulated disk.
 * It reads no clock and starts no timers but those it is given.
 */
import { join } from 'node:path';
import { AssertionError, assert, PhxError } from '../errors.js';
import { type AppendDone, AppendQueue, type Batch, type RecordKeys } from './append_queue.js';
import type { LogContents } from './contents.js';
import {
  type InstanceBounds,
  type LogEngine,
  type LogEntry,
  type LogOptions,
  type LogRecord,
  type LogStats,
  RecordKind,
  type RecoveryReport,
} from './engine.js';
import { EntryReader } from './entry_reader.js';
import type { FolderLock, LogFiles } from './files.js';
import {
  decodeRecordHeader,
  emptyHeader,
  IDENTITY_BYTES,
  RECORD_HEADER_BYTES,
  recordBytes,
  SEGMENT_BYTES_DEFAULT,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  segmentName,
} from './format.js';
import { Keeper, type KeptLog, type Later } from './keeper.js';
import type { LogPosition, Marks } from './marks.js';
import { NodeFiles } from './node_files.js';
import { type RecoveredLog, recoverLog } from './portable_recovery.js';
import type { OpenFiles } from './segment_file.js';
import type { SpareSegments } from './spare_segments.js';

const BLOCK_BYTES = 4096;

/** What the engine gets from outside; the defaults are this machine's. */
export interface PortableEnvironment {
  readonly files?: LogFiles;
  /** Milliseconds, monotonic; only for `recovery.elapsed_ms`. */
  readonly clock_ms?: () => number;
  readonly later?: Later;
}

/**
 * Opens the log of a folder with the portable engine.
 *
 * @throws PhxError LOG_LOCKED, LOG_IDENTITY, LOG_FORMAT (newer software wrote it), LOG_IO
 */
export async function openPortable(options: LogOptions, environment: PortableEnvironment = {}): Promise<LogEngine> {
  const { folder, identity, segment_bytes = SEGMENT_BYTES_DEFAULT, sync = true } = options;
  checkOptions(identity, segment_bytes);
  const files = environment.files ?? new NodeFiles();
  const clock_ms = environment.clock_ms ?? (() => performance.now());
  let lock: FolderLock | null = null;
  try {
    await files.makeFolder(folder);
    lock = await files.lockFolder(folder);
    const started_ms = clock_ms();
    const recovered = await recoverLog(files, { folder, identity, segment_bytes });
    const recovery = { ...recovered.report, elapsed_ms: clock_ms() - started_ms };
    const settings = { folder, identity, segment_bytes, sync };
    return new PortableLog(settings, files, lock, recovered, recovery, environment.later ?? processLater);
  } catch (error) {
    await lock?.release();
    throw error instanceof PhxError ? error : ioError(`cannot open the log in ${folder}`, error);
  }
}

/** States what both engines ask of their options. */
export function checkOptions(identity: Uint8Array, segment_bytes: number): void {
  assert(identity.length === IDENTITY_BYTES, `identity has ${IDENTITY_BYTES} bytes`);
  const inRange = segment_bytes >= SEGMENT_BYTES_MIN && segment_bytes <= SEGMENT_BYTES_MAX;
  assert(inRange && segment_bytes % BLOCK_BYTES === 0, 'segment_bytes is a multiple of 4096 from 8 KiB to 1 GiB');
}

function ioError(what: string, cause: unknown): PhxError {
  return new PhxError('LOG_IO', `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
}

function processLater(delay_ms: number, run: () => void): () => void {
  const timer = setTimeout(run, delay_ms);
  timer.unref();
  return () => clearTimeout(timer);
}

class PortableLog implements LogEngine, KeptLog {
  readonly engine = 'portable';
  readonly recovery: RecoveryReport;
  readonly folder: string;
  readonly identity: Uint8Array;
  readonly files: LogFiles;
  readonly contents: LogContents;
  readonly queue: AppendQueue;
  readonly spares: SpareSegments;
  readonly marks: Marks;
  missing: readonly number[];
  marks_lost: boolean;
  /** The segment being written. Those before it are complete. */
  active: number;
  durable: LogPosition;
  /** All before it is written. */
  private written: LogPosition;
  private readonly open_files: OpenFiles;
  private readonly segment_bytes: number;
  private readonly sync: boolean;
  private readonly lock: FolderLock;
  private readonly reader: EntryReader;
  private readonly keeper: Keeper;
  private running = false;
  /** The writer waits for a segment. */
  private starving = false;
  /** The batch that is being written. */
  private in_work: Batch | null = null;
  private waiters: (() => void)[] = [];
  private failure: PhxError | null = null;
  private closing: Promise<void> | null = null;
  private appended_records = 0;
  private appended_bytes = 0;
  private syncs = 0;

  constructor(
    options: Required<LogOptions>,
    files: LogFiles,
    lock: FolderLock,
    recovered: RecoveredLog,
    recovery: RecoveryReport,
    later: Later,
  ) {
    const { contents, open_files, spares, marks, missing, marks_lost, tail } = recovered;
    this.folder = options.folder;
    this.identity = options.identity;
    this.segment_bytes = options.segment_bytes;
    this.sync = options.sync;
    this.files = files;
    this.lock = lock;
    this.contents = contents;
    this.open_files = open_files;
    this.spares = spares;
    this.marks = marks;
    this.missing = missing;
    this.marks_lost = marks_lost;
    this.recovery = recovery;
    this.active = tail.segment;
    this.written = { segment: tail.segment, offset: tail.offset };
    this.durable = this.written;
    this.queue = new AppendQueue(options.identity, options.segment_bytes, tail, () => !this.low_on_space);
    this.reader = new EntryReader(contents, options.identity);
    this.keeper = new Keeper(this, later, tail.sealed);
    this.keeper.wake();
  }

  get low_on_space(): boolean {
    return this.keeper.low_on_space;
  }

  groups(): number[] {
    return this.contents.groups();
  }

  bounds(group: number): InstanceBounds | null {
    return this.contents.entries.bounds(group);
  }

  has(group: number, instance: number): boolean {
    return this.contents.entries.get(group, instance) !== null;
  }

  state(group: number, slot: number): Uint8Array | null {
    return this.contents.states.get(group, slot);
  }

  append(records: readonly LogRecord[], done: AppendDone): void {
    const refusal = this.closing !== null ? closedError() : this.failure;
    if (refusal !== null) {
      queueMicrotask(() => done(refusal));
      return;
    }
    this.appended_bytes += this.queue.append(records, done);
    this.appended_records += records.length;
    this.wakeWriter();
  }

  async read(group: number, instance: number): Promise<Uint8Array | null> {
    this.checkOpen();
    return this.reader.read(group, instance);
  }

  async readRange(group: number, from: number, through: number, bytes_max: number): Promise<LogEntry[]> {
    this.checkOpen();
    return this.reader.readRange(group, from, through, bytes_max);
  }

  truncate(group: number, before: number): void {
    this.checkOpen();
    this.contents.truncate(group, before);
    this.keeper.wake();
  }

  forgetDamage(): void {
    this.checkOpen();
    this.missing = [];
    this.marks_lost = false;
    this.contents.condemnUnreadable();
    this.keeper.writeMarksSoon();
  }

  stats(): LogStats {
    const { segments, segment_bytes, live_bytes, entries } = this.contents;
    return {
      segments: segments.size,
      disk_bytes: segment_bytes + this.spares.disk_bytes,
      live_bytes,
      appended_records: this.appended_records,
      appended_bytes: this.appended_bytes,
      rewritten_bytes: this.keeper.rewritten_bytes,
      syncs: this.syncs,
      index_bytes: entries.bytes,
    };
  }

  async settled(): Promise<void> {
    for (;;) {
      if (this.keeper.busy) await this.keeper.changed();
      else if (this.running && !(this.starving && this.low_on_space)) await this.changed();
      else return;
    }
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown().catch((error: unknown) => {
      throw error instanceof AssertionError ? error : ioError(`cannot close the log in ${this.folder}`, error);
    });
    return this.closing;
  }

  wakeWriter(): void {
    if (!this.running && this.failure === null) void this.run();
  }

  addKeysInWork(keys: RecordKeys): void {
    if (this.in_work !== null) keys.addBatch(this.in_work);
  }

  async syncWritten(): Promise<void> {
    const { written } = this;
    if (this.sync || written === this.durable) return;
    await this.contents.segment(written.segment).file.writable.sync();
    this.durable = written;
  }

  spareChanged(): void {
    this.tell();
  }

  fail(error: unknown): void {
    if (error instanceof AssertionError) throw error;
    const cause = error instanceof Error ? error.message : String(error);
    this.failure ??= new PhxError('LOG_POISONED', `a write or sync of the log failed: ${cause}`, { cause: error });
    this.keeper.halt();
    if (!this.running) this.failPending(this.failure);
    this.tell();
  }

  private async shutDown(): Promise<void> {
    this.tell();
    while (this.running) await this.changed();
    await this.keeper.stop();
    await this.reader.whenIdle();
    try {
      if (this.failure === null) await this.syncWritten();
      if (this.failure === null) await this.marks.writeClean(this.keeper.marksRecord());
    } catch (error) {
      throw ioError('the log is closed, but its marks could not be written', error);
    } finally {
      await this.release();
    }
  }

  private async release(): Promise<void> {
    try {
      await this.contents.closeFiles();
      await this.spares.close();
      await this.marks.close();
    } finally {
      await this.lock.release();
    }
  }

  private checkOpen(): void {
    if (this.closing !== null) throw closedError();
  }

  /** Resolves when something that is waited for may have happened: look again. */
  private async changed(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.waiters.push(resolve);
    });
  }

  private tell(): void {
    const waiters = this.waiters;
    this.waiters = [];
    for (const resolve of waiters) resolve();
  }

  /** Writes batch after batch until nothing waits. Rejects only with an exception of a `done`, which is a defect. */
  private async run(): Promise<void> {
    this.running = true;
    // What else is appended in this turn joins the first batch.
    await Promise.resolve();
    while (this.failure === null) {
      const batch = this.queue.take();
      if (batch === null) break;
      this.in_work = batch;
      try {
        await this.commit(batch);
      } catch (error) {
        if (isFull(error)) this.failure ??= error;
        else this.fail(error);
      }
      this.in_work = null;
      for (const done of batch.done) done(this.failure);
    }
    if (this.failure !== null) this.failPending(this.failure);
    // In one step with the last look at the queue: an append from now on starts the next run.
    this.running = false;
    this.tell();
  }

  private failPending(failure: PhxError): void {
    for (let batch = this.queue.take(); batch !== null; batch = this.queue.take()) {
      for (const done of batch.done) done(failure);
    }
  }

  private async commit(batch: Batch): Promise<void> {
    if (batch.used_bytes === 0) return;
    if (batch.segment !== this.active) await this.rotate(batch.segment);
    const { file, size_bytes } = this.contents.segment(batch.segment);
    const end = batch.start + batch.used_bytes;
    assert(end <= size_bytes, 'a batch lies within its segment');
    await file.writable.write([batch.buffer.subarray(0, batch.used_bytes)], batch.start);
    if (this.sync) {
      await file.writable.sync();
      this.syncs++;
    }
    // The keeper may have failed meanwhile: then nothing is reported durable any more.
    if (this.failure !== null) throw this.failure;
    this.written = { segment: batch.segment, offset: end };
    if (this.sync) this.durable = this.written;
    this.index(batch);
    this.queue.recycle(batch);
    this.keeper.wake();
  }

  /** Goes on in the spare, which the keeper has prepared or is preparing. */
  private async rotate(id: number): Promise<void> {
    while (!this.spares.has(id)) {
      if (this.failure !== null) throw this.failure;
      if (this.closing !== null && this.low_on_space) throw fullError();
      this.starving = true;
      this.tell();
      await this.changed();
    }
    this.starving = false;
    await this.syncWritten();
    const file = await this.spares.take(id);
    this.spares.taken();
    const { file: sealed } = this.contents.segment(this.active);
    this.contents.addSegment(id, this.open_files.hold(join(this.folder, segmentName(id)), file), this.segment_bytes);
    this.active = id;
    // From now on it is only read.
    await sealed.release();
    this.keeper.wake();
  }

  /** Makes the records of a durable batch visible. */
  private index(batch: Batch): void {
    const { segment, copied_from } = batch;
    const header = emptyHeader();
    for (let at = 0; at < batch.used_bytes; at += recordBytes(header.body_bytes)) {
      decodeRecordHeader(batch.buffer, at, header);
      const { kind, group, instance, body_bytes } = header;
      if (kind !== RecordKind.entry && kind !== RecordKind.state) continue;
      // A copy of what has died or got a successor meanwhile is dead on arrival.
      if (copied_from !== 0 && this.contents.segmentOf(kind, group, instance) !== copied_from) continue;
      const start = at + RECORD_HEADER_BYTES;
      const isState = kind === RecordKind.state;
      const body = isState ? Buffer.from(batch.buffer.subarray(start, start + body_bytes)) : null;
      this.contents.put({ kind, group, instance, segment, offset: batch.start + at, body_bytes }, body);
    }
  }
}

function closedError(): PhxError {
  return new PhxError('LOG_CLOSED', 'the log is closed');
}

function fullError(): PhxError {
  return new PhxError('LOG_FULL', 'the log was closed before there was space for what waited', { retryable: true });
}

function isFull(error: unknown): error is PhxError {
  return error instanceof PhxError && error.code === 'LOG_FULL';
}
