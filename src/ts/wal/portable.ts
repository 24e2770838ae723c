/**
 * The log engine in TypeScript. Same files as the native one; used where there is no addon, and on a simulated disk.
 * It reads no clock but the one it is given and starts no timers.
 */
import { join } from 'node:path';
import { AssertionError, assert, PhxError } from '../errors.js';
import { type AppendDone, AppendQueue, type Batch, type LogTail } from './append_queue.js';
import type { InstanceBounds, LogEngine, LogEntry, LogOptions, LogRecord, LogStats, RecoveryReport } from './engine.js';
import { RecordKind } from './engine.js';
import { EntryReader } from './entry_reader.js';
import type { FolderLock, LogFiles } from './files.js';
import {
  decodeRecordHeader,
  emptyHeader,
  encodeSegmentHeader,
  IDENTITY_BYTES,
  RECORD_HEADER_BYTES,
  recordBytes,
  SEGMENT_BYTES_DEFAULT,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  SEGMENT_HEADER_BYTES,
  segmentName,
  unfinishedSegmentName,
} from './format.js';
import { NodeFiles } from './node_files.js';
import { type LogContents, recoverLog } from './portable_recovery.js';

/** Written as zeros behind a batch that reaches unwritten space, so that the next ones overwrite written blocks. */
const ZEROS_AHEAD_BYTES = 1024 * 1024;
const BLOCK_BYTES = 4096;

/** What the engine gets from outside; the defaults are this machine's. */
export interface PortableEnvironment {
  readonly files?: LogFiles;
  /** Milliseconds, monotonic; only for `recovery.elapsed_ms`. */
  readonly clock_ms?: () => number;
}

/**
 * Opens the log of a folder with the portable engine.
 *
 * @throws PhxError LOG_LOCKED, LOG_IDENTITY, LOG_CORRUPT (an unknown format), LOG_IO
 */
export async function openPortable(options: LogOptions, environment: PortableEnvironment = {}): Promise<LogEngine> {
  const segment_bytes = options.segment_bytes ?? SEGMENT_BYTES_DEFAULT;
  checkOptions(options.identity, segment_bytes);
  const files = environment.files ?? new NodeFiles();
  const clock_ms = environment.clock_ms ?? (() => performance.now());
  let lock: FolderLock | null = null;
  try {
    await files.makeFolder(options.folder);
    lock = await files.lockFolder(options.folder);
    const started_ms = clock_ms();
    const { contents, report, tail } = await recoverLog(files, options);
    const queue = new AppendQueue(options.identity, segment_bytes, tail);
    const recovery = { ...report, elapsed_ms: clock_ms() - started_ms };
    const log = new PortableLog({ ...options, segment_bytes }, files, lock, contents, queue, recovery);
    await log.start(tail);
    return log;
  } catch (error) {
    await lock?.release();
    throw error instanceof PhxError ? error : ioError(`cannot open the log in ${options.folder}`, error);
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

class PortableLog implements LogEngine {
  readonly engine = 'portable';
  readonly recovery: RecoveryReport;
  private readonly options: LogOptions & { readonly segment_bytes: number };
  private readonly files: LogFiles;
  private readonly lock: FolderLock;
  private readonly contents: LogContents;
  private readonly queue: AppendQueue;
  private readonly reader: EntryReader;
  /** The segment being written. Those before it are complete. */
  private active = 0;
  private running = false;
  private idle: (() => void) | null = null;
  private failure: PhxError | null = null;
  private closing: Promise<void> | null = null;
  /** Whether something was written since the last mark. */
  private unmarked = false;
  private appended_records = 0;
  private appended_bytes = 0;
  private syncs = 0;

  constructor(
    options: LogOptions & { readonly segment_bytes: number },
    files: LogFiles,
    lock: FolderLock,
    contents: LogContents,
    queue: AppendQueue,
    recovery: RecoveryReport,
  ) {
    this.options = options;
    this.files = files;
    this.lock = lock;
    this.contents = contents;
    this.queue = queue;
    this.reader = new EntryReader(contents, options.identity);
    this.recovery = recovery;
  }

  /** Makes the segment that the first append goes to, if recovery found none that goes on. */
  async start(tail: LogTail): Promise<void> {
    this.active = tail.segment;
    this.unmarked = tail.unmarked;
    if (!this.contents.segments.has(tail.segment)) {
      try {
        await this.createSegment(tail.segment);
      } catch (error) {
        await this.contents.closeFiles();
        throw error;
      }
    }
    this.rewriteStates();
    this.wake();
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
    for (const record of records) {
      if (record.kind === RecordKind.state) this.contents.states.appended(record.group, record.instance);
    }
    this.wake();
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
    if (this.failure === null) this.rewriteStates();
    this.wake();
  }

  stats(): LogStats {
    let disk_bytes = 0;
    for (const segment of this.contents.segments.values()) disk_bytes += segment.size_bytes;
    return {
      segments: this.contents.segments.size,
      disk_bytes,
      appended_records: this.appended_records,
      appended_bytes: this.appended_bytes,
      syncs: this.syncs,
      index_bytes: this.contents.entries.bytes,
    };
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    if (this.running) {
      await new Promise<void>((resolve) => {
        this.idle = resolve;
      });
    }
    if (this.failure === null && this.unmarked) {
      this.queue.appendMark();
      await this.run();
    }
    await this.reader.whenIdle();
    try {
      await this.contents.closeFiles();
    } finally {
      await this.lock.release();
    }
  }

  private checkOpen(): void {
    if (this.closing !== null) throw closedError();
  }

  private wake(): void {
    if (!this.running && this.failure === null) void this.run();
  }

  /** Writes batch after batch until nothing waits. Rejects only with an exception of a `done`, which is a defect. */
  private async run(): Promise<void> {
    this.running = true;
    // What else is appended in this turn joins the first batch.
    await Promise.resolve();
    while (this.failure === null && (!this.queue.empty || this.contents.mayHaveDead)) {
      const batch = this.queue.take();
      try {
        if (batch !== null) await this.commit(batch);
        await this.removeDeadSegments();
      } catch (error) {
        if (error instanceof AssertionError) throw error;
        const cause = error instanceof Error ? error.message : String(error);
        this.failure = new PhxError('LOG_POISONED', `a write or sync of the log failed: ${cause}`, { cause: error });
      }
      if (batch !== null) for (const done of batch.done) done(this.failure);
    }
    if (this.failure !== null) this.failPending(this.failure);
    // In one step with the last look at the queue: an append from now on starts the next run.
    this.running = false;
    this.idle?.();
  }

  private failPending(failure: PhxError): void {
    for (let batch = this.queue.take(); batch !== null; batch = this.queue.take()) {
      for (const done of batch.done) done(failure);
    }
  }

  private async commit(batch: Batch): Promise<void> {
    if (batch.used_bytes === 0) return;
    if (batch.segment !== this.active) {
      await this.createSegment(batch.segment);
      this.active = batch.segment;
    }
    const segment = this.contents.segment(batch.segment);
    const buffers: Uint8Array[] = [batch.buffer.subarray(0, batch.used_bytes)];
    const end = batch.start + batch.used_bytes;
    if (end > segment.size_bytes) {
      const ahead = Math.min(end + ZEROS_AHEAD_BYTES, Math.max(this.options.segment_bytes, end));
      const grown = Math.ceil(ahead / BLOCK_BYTES) * BLOCK_BYTES;
      buffers.push(zeros.subarray(0, grown - end));
      segment.size_bytes = grown;
    }
    await segment.file.write(buffers, batch.start);
    if (this.options.sync ?? true) {
      await segment.file.sync();
      this.syncs++;
    }
    this.unmarked = !batch.mark;
    this.index(batch);
    this.rewriteStates();
    this.queue.recycle(batch);
  }

  /** Makes the records of a durable batch visible. */
  private index(batch: Batch): void {
    const header = emptyHeader();
    for (let at = 0; at < batch.used_bytes; at += recordBytes(header.body_bytes)) {
      decodeRecordHeader(batch.buffer, at, header);
      const { kind, group, instance, body_bytes } = header;
      const offset = batch.start + at;
      if (kind === RecordKind.entry) this.contents.putEntry(group, instance, batch.segment, offset, body_bytes);
      if (kind !== RecordKind.state) continue;
      const start = at + RECORD_HEADER_BYTES;
      const body = Buffer.from(batch.buffer.subarray(start, start + body_bytes));
      this.contents.putState(group, instance, batch.segment, offset, body);
    }
  }

  /** The file gets its name only when its header is durable: a segment file without one is damaged. */
  private async createSegment(id: number): Promise<void> {
    const folder = this.options.folder;
    const unfinished = join(folder, unfinishedSegmentName(id));
    const file = await this.files.create(unfinished);
    try {
      await file.write([encodeSegmentHeader(this.options.identity, id, this.options.segment_bytes)], 0);
      await file.sync();
      await this.files.rename(unfinished, join(folder, segmentName(id)));
      await this.files.syncFolder(folder);
    } catch (error) {
      await file.close();
      throw error;
    }
    this.contents.addSegment(id, file, SEGMENT_HEADER_BYTES);
  }

  /** Appends again the state records that alone keep an old segment. */
  private rewriteStates(): void {
    const held = this.contents.statesToRewrite(this.active);
    if (held.length === 0) return;
    const rewritten = held.map(({ group, slot, body }) => {
      return { kind: RecordKind.state, group, instance: slot, body: [body] };
    });
    this.queue.appendRewritten(rewritten);
    for (const { group, slot } of held) this.contents.states.appended(group, slot);
  }

  private async removeDeadSegments(): Promise<void> {
    const dead = this.contents.takeDead(this.active);
    if (dead.length === 0) return;
    for (const segment of dead) {
      segment.retired = true;
      if (segment.readers === 0) await segment.file.close();
    }
    for (const segment of dead) await this.files.unlink(join(this.options.folder, segmentName(segment.id)));
    await this.files.syncFolder(this.options.folder);
  }
}

const zeros = Buffer.alloc(ZEROS_AHEAD_BYTES + BLOCK_BYTES);

function closedError(): PhxError {
  return new PhxError('LOG_CLOSED', 'the log is closed');
}
