/** The log engine of the Rust addon. It keeps queue, index and files; here remain the callbacks. */
import { PhxError } from '../errors.js';
import { type AppendDone, PENDING_BYTES_MAX } from './append_queue.js';
import type { InstanceBounds, LogEngine, LogEntry, LogOptions, LogRecord, LogStats, RecoveryReport } from './engine.js';
import { checkKey, RECORD_HEADER_BYTES, recordBytes, SEGMENT_BYTES_DEFAULT, SEGMENT_HEADER_BYTES } from './format.js';
import { GatheredAppends } from './native_appends.js';
import {
  fromNativeError,
  loadNative,
  type NativeBinding,
  type NativeEntries,
  type NativeLog,
} from './native_binding.js';
import { PendingAppends } from './native_pending.js';
import { checkOptions } from './portable.js';

/**
 * Opens the log of a folder with the native engine.
 *
 * @throws PhxError LOG_LOCKED, LOG_IDENTITY, LOG_FORMAT (newer software wrote it), LOG_IO; CONFIG where there is no addon
 */
export async function openNative(options: LogOptions): Promise<LogEngine> {
  const native = loadNative();
  if ('reason' in native) throw new PhxError('CONFIG', native.reason);
  const segment_bytes = options.segment_bytes ?? SEGMENT_BYTES_DEFAULT;
  checkOptions(options.identity, segment_bytes);
  try {
    return await NativeEngine.open(native.binding, options, segment_bytes);
  } catch (error) {
    throw fromNativeError(error);
  }
}

/** Entries of a range that are read without a thread; more of them, or what is not in memory, one thread reads. */
const CACHED_ENTRIES_MAX = 1024;
const PLACE_FIELDS = 3;

class NativeEngine implements LogEngine {
  readonly engine = 'native';
  readonly recovery: RecoveryReport;
  private readonly log: NativeLog;
  private readonly pending: PendingAppends;
  /** Most bytes that one append may take. */
  private readonly room_bytes: number;
  /** What was appended in this turn. */
  private readonly gathered = new GatheredAppends();
  /** Scratch of `append` and `readRange`. */
  private readonly body_bytes: number[] = [];
  private readonly places = new Float64Array(1 + CACHED_ENTRIES_MAX * PLACE_FIELDS);
  /** Those that are under way on other threads. */
  private readonly reads = new Set<Promise<NativeEntries>>();
  /** The addon keeps the process alive. */
  private held = false;
  private closing: Promise<void> | null = null;
  private appended_records = 0;
  private appended_bytes = 0;

  static async open(binding: NativeBinding, options: LogOptions, segment_bytes: number): Promise<NativeEngine> {
    const pending = new PendingAppends();
    const { folder, identity } = options;
    const sync = options.sync ?? true;
    const log = await binding.openLog({ folder, identity, segmentBytes: segment_bytes, sync }, pending.committed);
    return new NativeEngine(log, pending, segment_bytes);
  }

  private constructor(log: NativeLog, pending: PendingAppends, segment_bytes: number) {
    this.log = log;
    this.pending = pending;
    this.room_bytes = segment_bytes - SEGMENT_HEADER_BYTES - RECORD_HEADER_BYTES;
    pending.onEmpty = () => this.rest();
    pending.low_on_space = log.lowOnSpace();
    const { segments, records, bytes, tornBytes, damagedMarks, elapsedMs, ...found } = log.recovery();
    const corrupt = found.corrupt.map(({ segment, offset, group, instance }) => {
      return { segment, offset, group: group ?? null, instance: instance ?? null };
    });
    const damage = { torn_bytes: tornBytes, corrupt, damaged_marks: damagedMarks };
    this.recovery = { segments, records, bytes, ...damage, elapsed_ms: elapsedMs };
  }

  get low_on_space(): boolean {
    return this.pending.low_on_space;
  }

  groups(): number[] {
    return this.log.groups();
  }

  bounds(group: number): InstanceBounds | null {
    const [first, last] = this.log.bounds(group);
    return first === undefined || last === undefined ? null : { first, last };
  }

  has(group: number, instance: number): boolean {
    return this.log.has(group, instance);
  }

  state(group: number, slot: number): Uint8Array | null {
    return translated(() => this.log.state(group, slot));
  }

  append(records: readonly LogRecord[], done: AppendDone): void {
    const refusal = this.closing !== null ? closedError() : this.pending.failure;
    if (refusal !== null) {
      queueMicrotask(() => done(refusal));
      return;
    }
    const bytes = this.measure(records);
    if (this.pending.low_on_space) this.appendNow(records);
    else this.gather(records);
    this.pending.push(done, bytes);
    this.appended_records += records.length;
    this.appended_bytes += bytes;
    this.hold();
  }

  async read(group: number, instance: number): Promise<Uint8Array | null> {
    const [entry] = await this.readRange(group, instance, instance, 0);
    return entry?.body ?? null;
  }

  async readRange(group: number, from: number, through: number, bytes_max: number): Promise<LogEntry[]> {
    this.checkOpen();
    const read = translated(() => this.log.readRange(group, from, through, bytes_max, this.places));
    if (read instanceof Uint8Array) return entriesIn(read, this.places, 1, this.places[0] ?? 0);
    this.reads.add(read);
    try {
      const { bytes, places } = await read;
      return entriesIn(bytes, places, 0, places.length / PLACE_FIELDS);
    } catch (error) {
      throw fromNativeError(error);
    } finally {
      this.reads.delete(read);
    }
  }

  truncate(group: number, before: number): void {
    this.checkOpen();
    this.log.truncate(group, before);
  }

  forgetDamage(): void {
    this.checkOpen();
    this.log.forgetDamage();
  }

  stats(): LogStats {
    const { segments, diskBytes, liveBytes, rewrittenBytes, syncs, indexBytes } = this.log.stats();
    return {
      segments,
      disk_bytes: diskBytes,
      live_bytes: liveBytes,
      appended_records: this.appended_records,
      appended_bytes: this.appended_bytes,
      rewritten_bytes: rewrittenBytes,
      syncs,
      index_bytes: indexBytes,
    };
  }

  async settled(): Promise<void> {
    this.flush();
    const settled = this.pending.settled();
    this.hold();
    this.log.settle();
    await settled;
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    this.flush();
    // Here, not in the addon: whoever waited there would hold a thread that the reads may need.
    await Promise.allSettled(this.reads);
    await this.log.close().catch((error: unknown) => {
      throw fromNativeError(error);
    });
    await this.pending.whenEmpty();
  }

  private checkOpen(): void {
    if (this.closing !== null) throw closedError();
  }

  /** Checks what needs no look into the addon; returns the bytes that the records take, and fills `body_bytes`. */
  private measure(records: readonly LogRecord[]): number {
    const { body_bytes, room_bytes, pending } = this;
    body_bytes.length = 0;
    let total = 0;
    for (const { kind, group, instance, body } of records) {
      checkKey(kind, group, instance);
      let bytes = 0;
      for (const part of body) bytes += part.length;
      body_bytes.push(bytes);
      total += recordBytes(bytes);
    }
    if (total > room_bytes) {
      throw new PhxError('SIZE_TOO_LARGE', `an append of ${total} bytes does not fit into a segment (${room_bytes})`);
    }
    if (pending.bytes + total > PENDING_BYTES_MAX) {
      const message = `${pending.bytes} bytes wait for the disk (limit ${PENDING_BYTES_MAX})`;
      throw new PhxError('PROPOSE_FAST_REJECT', message, { retryable: true });
    }
    return total;
  }

  /** The addon looks whether there is room. */
  private appendNow(records: readonly LogRecord[]): void {
    this.flush();
    const { gathered, log } = this;
    gathered.add(records, this.body_bytes);
    try {
      translated(() => log.append(gathered.keys, gathered.items, gathered.small, gathered.parts));
      this.pending.handed_over += gathered.appends;
    } finally {
      gathered.clear();
    }
  }

  /** What else is appended in this turn joins the same batch. */
  private gather(records: readonly LogRecord[]): void {
    if (this.gathered.empty) queueMicrotask(this.flush);
    this.gathered.add(records, this.body_bytes);
    const { gathered, pending } = this;
    if (gathered.full || (pending.handed_over === 0 && gathered.worth_a_write)) this.flush();
  }

  private readonly flush = (): void => {
    const { gathered, log } = this;
    if (gathered.empty) return;
    log.appendAccepted(gathered.keys, gathered.items, gathered.small, gathered.parts);
    this.pending.handed_over += gathered.appends;
    gathered.clear();
  };

  private hold(): void {
    if (this.held) return;
    this.held = true;
    this.log.hold();
  }

  private rest(): void {
    if (!this.held) return;
    this.held = false;
    this.log.rest();
  }
}

/** `count` entries, whose places begin at `at`. */
function entriesIn(bytes: Uint8Array, places: Float64Array, at: number, count: number): LogEntry[] {
  const { buffer, byteOffset } = bytes;
  const entries: LogEntry[] = [];
  for (let place = at; place < at + count * PLACE_FIELDS; place += PLACE_FIELDS) {
    const start = byteOffset + (places[place + 1] ?? 0);
    entries.push({ instance: places[place] ?? 0, body: new Uint8Array(buffer, start, places[place + 2] ?? 0) });
  }
  return entries;
}

function translated<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromNativeError(error);
  }
}

function closedError(): PhxError {
  return new PhxError('LOG_CLOSED', 'the log is closed');
}
