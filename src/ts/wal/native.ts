/** The log engine of the Rust addon. It keeps queue, index and files; here remain the callbacks. */
import { assert, PhxError } from '../errors.js';
import type { AppendDone } from './append_queue.js';
import type { InstanceBounds, LogEngine, LogEntry, LogOptions, LogRecord, LogStats, RecoveryReport } from './engine.js';
import { checkKey, SEGMENT_BYTES_DEFAULT } from './format.js';
import { fromNativeError, loadNative, type NativeBinding, type NativeLog } from './native_binding.js';
import { checkOptions } from './portable.js';

/**
 * Opens the log of a folder with the native engine.
 *
 * @throws PhxError LOG_LOCKED, LOG_IDENTITY, LOG_CORRUPT (an unknown format), LOG_IO; CONFIG where there is no addon
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

const KEY_FIELDS = 4;
const INITIAL_KEYS = 64;

class NativeEngine implements LogEngine {
  readonly engine = 'native';
  readonly recovery: RecoveryReport;
  private readonly log: NativeLog;
  private readonly pending: PendingAppends;
  /** Scratch of `append`: kind, group, instance and number of parts of each record. */
  private keys = new Float64Array(INITIAL_KEYS * KEY_FIELDS);
  private flushing = false;
  private closing: Promise<void> | null = null;

  static async open(binding: NativeBinding, options: LogOptions, segment_bytes: number): Promise<NativeEngine> {
    const pending = new PendingAppends();
    const { folder, identity } = options;
    const sync = options.sync ?? true;
    const log = await binding.openLog({ folder, identity, segmentBytes: segment_bytes, sync }, pending.committed);
    return new NativeEngine(log, pending);
  }

  private constructor(log: NativeLog, pending: PendingAppends) {
    this.log = log;
    this.pending = pending;
    pending.onEmpty = () => log.rest();
    const { segments, records, bytes, tornBytes, elapsedMs, ...found } = log.recovery();
    const corrupt = found.corrupt.map(({ segment, offset, group, instance }) => {
      return { segment, offset, group: group ?? null, instance: instance ?? null };
    });
    this.recovery = { segments, records, bytes, torn_bytes: tornBytes, corrupt, elapsed_ms: elapsedMs };
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
    if (this.keys.length < records.length * KEY_FIELDS) this.keys = new Float64Array(records.length * KEY_FIELDS * 2);
    const keys = this.keys;
    const parts: Uint8Array[] = [];
    let at = 0;
    for (const { kind, group, instance, body } of records) {
      checkKey(kind, group, instance);
      keys[at] = kind;
      keys[at + 1] = group;
      keys[at + 2] = instance;
      keys[at + 3] = body.length;
      at += KEY_FIELDS;
      for (const part of body) parts.push(part);
    }
    translated(() => this.log.append(keys, records.length, parts));
    this.pending.push(done);
    if (this.flushing) return;
    this.flushing = true;
    // What else is appended in this turn joins the same batch.
    queueMicrotask(() => {
      this.flushing = false;
      this.log.flush();
    });
  }

  async read(group: number, instance: number): Promise<Uint8Array | null> {
    const [entry] = await this.readRange(group, instance, instance, 0);
    return entry?.body ?? null;
  }

  async readRange(group: number, from: number, through: number, bytes_max: number): Promise<LogEntry[]> {
    this.checkOpen();
    const { bytes, places } = await this.log.readRange(group, from, through, bytes_max).catch((error: unknown) => {
      throw fromNativeError(error);
    });
    const entries: LogEntry[] = [];
    for (let at = 0; at < places.length; at += 3) {
      const start = places[at + 1] ?? 0;
      entries.push({ instance: places[at] ?? 0, body: bytes.subarray(start, start + (places[at + 2] ?? 0)) });
    }
    return entries;
  }

  truncate(group: number, before: number): void {
    this.checkOpen();
    this.log.truncate(group, before);
  }

  stats(): LogStats {
    const { segments, diskBytes, appendedRecords, appendedBytes, syncs, indexBytes } = this.log.stats();
    return {
      segments,
      disk_bytes: diskBytes,
      appended_records: appendedRecords,
      appended_bytes: appendedBytes,
      syncs,
      index_bytes: indexBytes,
    };
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    await this.log.close().catch((error: unknown) => {
      throw fromNativeError(error);
    });
    await this.pending.whenEmpty();
  }

  private checkOpen(): void {
    if (this.closing !== null) throw closedError();
  }
}

/** The callbacks of the appends that are not durable yet, in their order. */
class PendingAppends {
  failure: PhxError | null = null;
  onEmpty: () => void = () => undefined;
  private dones: AppendDone[] = [];
  /** How many of `dones` were called. */
  private called = 0;
  private waiting: (() => void) | null = null;

  push(done: AppendDone): void {
    this.dones.push(done);
  }

  /** Told by the addon after each commit. */
  readonly committed = (appends: number, failure?: string | null): void => {
    this.call(appends, null);
    if (typeof failure === 'string') {
      this.failure = new PhxError('LOG_POISONED', failure);
      this.call(this.dones.length - this.called, this.failure);
    }
    if (this.dones.length > 0) return;
    this.onEmpty();
    this.waiting?.();
  };

  async whenEmpty(): Promise<void> {
    if (this.dones.length === 0) return;
    await new Promise<void>((resolve) => {
      this.waiting = resolve;
    });
  }

  private call(appends: number, failure: PhxError | null): void {
    const end = this.called + appends;
    assert(end <= this.dones.length, 'no more appends complete than were made');
    while (this.called < end) {
      const done = this.dones[this.called];
      this.called++;
      done?.(failure);
    }
    if (this.called * 2 < this.dones.length) return;
    this.dones = this.dones.slice(this.called);
    this.called = 0;
  }
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
