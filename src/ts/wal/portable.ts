/**
 * The log engine in TypeScript. Same files as the native one; used where there is no addon, and on a simulated disk.
 * It reads no clock but the one it is given and starts no timers.
 */
import { join } from 'node:path';
import { assert, PhxError } from '../errors.js';
import { type AppendDone, AppendQueue, type Batch } from './append_queue.js';
import { crc32c } from './crc32c.js';
import type { InstanceBounds, LogEngine, LogEntry, LogOptions, LogRecord, LogStats, RecoveryReport } from './engine.js';
import { RecordKind } from './engine.js';
import type { Location } from './entry_index.js';
import type { FolderLock, LogFile, LogFiles } from './files.js';
import {
  decodeRecordHeader,
  emptyHeader,
  encodeSegmentHeader,
  IDENTITY_BYTES,
  RECORD_HEADER_BYTES,
  readRecordHeader,
  recordBytes,
  SEGMENT_BYTES_DEFAULT,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  SEGMENT_HEADER_BYTES,
  segmentName,
  segmentSeed,
  unfinishedSegmentName,
} from './format.js';
import { NodeFiles } from './node_files.js';
import { type LogContents, recoverLog, type Segment } from './portable_recovery.js';

/** Written as zeros behind a batch that reaches unwritten space, so that the next ones overwrite written blocks. */
const ZEROS_AHEAD_BYTES = 1024 * 1024;
const BLOCK_BYTES = 4096;

/** Entries that lie within this distance are fetched by one read, of at most the second size unless one is larger. */
const READ_GAP_BYTES_MAX = 16 * 1024;
const READ_BYTES_MAX = 1024 * 1024;

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
    const { contents, report, tail } = await recoverLog(files, options.folder, options.identity);
    const queue = new AppendQueue(options.identity, segment_bytes, tail);
    const recovery = { ...report, elapsed_ms: clock_ms() - started_ms };
    const log = new PortableLog({ ...options, segment_bytes }, files, lock, contents, queue, recovery);
    await log.start(tail.segment);
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
  /** The segment being written. Those before it are complete. */
  private active = 0;
  private pump: Promise<void> | null = null;
  private failure: PhxError | null = null;
  private closing: Promise<void> | null = null;
  private unmarked = false;
  private reads = 0;
  private readsOver: (() => void) | null = null;
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
    this.recovery = recovery;
  }

  /** Makes the segment that the first append goes to, if recovery found none that goes on. */
  async start(segment: number): Promise<void> {
    if (!this.contents.segments.has(segment)) await this.createSegment(segment);
    this.active = segment;
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
    const location = this.contents.entries.get(group, instance);
    if (location === null) return null;
    const bytes = Buffer.allocUnsafeSlow(recordBytes(location.body_bytes));
    await this.withSegment(location, (file) => this.readInto(file, bytes, location.offset, group, instance));
    return this.checkedBody(bytes, 0, location, group, instance);
  }

  async readRange(group: number, from: number, through: number, bytes_max: number): Promise<LogEntry[]> {
    this.checkOpen();
    const found = this.contents.entries.range(group, from, through, bytes_max);
    const entries: LogEntry[] = [];
    let at = 0;
    while (at < found.length) {
      const first = found[at];
      if (first === undefined) break;
      let end = first.offset + recordBytes(first.body_bytes);
      let next = at + 1;
      for (let other = found[next]; other !== undefined; other = found[++next]) {
        const other_end = other.offset + recordBytes(other.body_bytes);
        const near = other.segment === first.segment && other.offset >= end && other.offset - end <= READ_GAP_BYTES_MAX;
        if (!near || other_end - first.offset > READ_BYTES_MAX) break;
        end = other_end;
      }
      const bytes = Buffer.allocUnsafeSlow(end - first.offset);
      await this.withSegment(first, (file) => this.readInto(file, bytes, first.offset, group, first.instance));
      for (const entry of found.slice(at, next)) {
        const body = this.checkedBody(bytes, entry.offset - first.offset, entry, group, entry.instance);
        entries.push({ instance: entry.instance, body });
      }
      at = next;
    }
    return entries;
  }

  truncate(group: number, before: number): void {
    this.checkOpen();
    this.contents.truncate(group, before);
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
    if (this.pump !== null) await this.pump;
    if (this.failure === null && this.unmarked) {
      this.queue.appendMark();
      await this.run();
    }
    if (this.reads > 0) {
      await new Promise<void>((resolve) => {
        this.readsOver = resolve;
      });
    }
    for (const segment of this.contents.segments.values()) await segment.file.close();
    await this.lock.release();
  }

  private checkOpen(): void {
    if (this.closing !== null) throw closedError();
  }

  private wake(): void {
    if (this.pump !== null || this.failure !== null) return;
    this.pump = this.run().finally(() => {
      this.pump = null;
    });
  }

  /** Writes batch after batch until nothing waits. Never rejects, but for an exception of a `done`. */
  private async run(): Promise<void> {
    // What else is appended in this turn joins the first batch.
    await Promise.resolve();
    while (this.failure === null) {
      let batch: Batch | null = null;
      try {
        this.rewriteStates();
        batch = this.queue.take();
        if (batch !== null) await this.commit(batch);
        await this.removeDeadSegments();
      } catch (error) {
        const cause = error instanceof Error ? error.message : String(error);
        this.failure = new PhxError('LOG_POISONED', `a write or sync of the log failed: ${cause}`, { cause: error });
      }
      if (batch !== null) for (const done of batch.done) done(this.failure);
      if (batch === null || this.queue.empty) {
        if (this.failure === null && !this.contents.hasWork(this.active)) return;
      }
    }
    for (let batch = this.queue.take(); batch !== null; batch = this.queue.take()) {
      for (const done of batch.done) done(this.failure);
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
    this.unmarked = this.closing === null;
    this.index(batch);
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
    await file.write([encodeSegmentHeader(this.options.identity, id, this.options.segment_bytes)], 0);
    await file.sync();
    await this.files.rename(unfinished, join(folder, segmentName(id)));
    await this.files.syncFolder(folder);
    this.contents.addSegment(id, file, SEGMENT_HEADER_BYTES);
  }

  /** Appends again the state records that alone keep an old segment. */
  private rewriteStates(): void {
    for (const held of this.contents.statesToRewrite(this.active)) {
      const record = { kind: RecordKind.state, group: held.group, instance: held.slot, body: [held.body] };
      this.queue.append([record], () => undefined);
      this.contents.states.appended(held.group, held.slot);
    }
  }

  private async removeDeadSegments(): Promise<void> {
    const dead = this.contents.takeDead(this.active);
    if (dead.length === 0) return;
    for (const segment of dead) {
      await this.files.unlink(join(this.options.folder, segmentName(segment.id)));
      segment.retired = true;
      if (segment.readers === 0) await segment.file.close();
    }
    await this.files.syncFolder(this.options.folder);
  }

  private async withSegment(location: Location, use: (file: LogFile) => Promise<void>): Promise<void> {
    const segment: Segment = this.contents.segment(location.segment);
    segment.readers++;
    this.reads++;
    try {
      await use(segment.file);
    } finally {
      segment.readers--;
      this.reads--;
      if (segment.retired && segment.readers === 0) await segment.file.close();
      if (this.reads === 0) this.readsOver?.();
    }
  }

  private async readInto(file: LogFile, bytes: Buffer, offset: number, group: number, instance: number): Promise<void> {
    const filled = await file.read(bytes, offset).catch((cause: unknown) => {
      throw new PhxError('LOG_CORRUPT', `cannot read entry ${instance} of group ${group}`, { cause });
    });
    bytes.fill(0, filled);
  }

  private checkedBody(bytes: Buffer, at: number, location: Location, group: number, instance: number): Uint8Array {
    const header = emptyHeader();
    const seed = segmentSeed(this.options.identity, location.segment);
    const start = at + RECORD_HEADER_BYTES;
    const end = start + location.body_bytes;
    const sound =
      readRecordHeader(bytes, at, location.offset, seed, header) &&
      header.kind === RecordKind.entry &&
      header.group === group &&
      header.instance === instance &&
      header.body_bytes === location.body_bytes &&
      crc32c(bytes, start, end) === header.body_crc;
    if (sound) return new Uint8Array(bytes.buffer, bytes.byteOffset + start, location.body_bytes);
    const place = `segment ${location.segment}, offset ${location.offset}`;
    throw new PhxError('LOG_CORRUPT', `entry ${instance} of group ${group} is damaged (${place})`);
  }
}

const zeros = Buffer.alloc(ZEROS_AHEAD_BYTES + BLOCK_BYTES);

function closedError(): PhxError {
  return new PhxError('LOG_CLOSED', 'the log is closed');
}
