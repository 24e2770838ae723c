/**
 * What a log engine promises. Two engines implement it, `native.ts` (the Rust addon) and `portable.ts` (TypeScript);
 * both write the same bytes (docs/on-disk-format.md) and either opens what the other wrote.
 *
 * A log holds records of many groups. The key of a record is (kind, group, instance); of two records with one key the
 * later wins. `entry` records are large and stay on disk, `state` records are small (a promise, an identity) and their
 * latest version is kept in memory; for these `instance` is a slot number that the caller chooses.
 */
export const RecordKind = { entry: 1, state: 2 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** One record to append. The engine concatenates the parts of `body`; it neither keeps nor changes them afterwards. */
export interface LogRecord {
  readonly kind: RecordKind;
  /** 0 to 2^32 - 1. */
  readonly group: number;
  /** 0 to 2^53 - 1. */
  readonly instance: number;
  readonly body: readonly Uint8Array[];
}

/** An entry as read back. */
export interface LogEntry {
  readonly instance: number;
  readonly body: Uint8Array;
}

/** Lowest and highest instance of the entries that a group holds (there may be holes between). */
export interface InstanceBounds {
  readonly first: number;
  readonly last: number;
}

/**
 * A record that was found damaged and is not a torn tail. `group` is null where the header itself is unreadable, and where
 * a whole segment is missing (offset 0) or the high-water marks are (segment 0).
 */
export interface CorruptRecord {
  readonly segment: number;
  readonly offset: number;
  readonly group: number | null;
  readonly instance: number | null;
}

/** What opening found. */
export interface RecoveryReport {
  readonly segments: number;
  readonly records: number;
  readonly bytes: number;
  /** Bytes of an unfinished write that were wiped from the end of the newest segment. */
  readonly torn_bytes: number;
  readonly corrupt: readonly CorruptRecord[];
  /** Unreadable copies of the file of high-water marks (0 to 2) that no crash explains. They were written anew. */
  readonly damaged_marks: number;
  readonly elapsed_ms: number;
}

export interface LogStats {
  readonly segments: number;
  /** Bytes of all files of the log: segments, the spare and the retired ones. */
  readonly disk_bytes: number;
  /** Bytes of the records that are not superseded or truncated. */
  readonly live_bytes: number;
  readonly appended_records: number;
  readonly appended_bytes: number;
  /** Bytes of records that were copied out of sparse segments. */
  readonly rewritten_bytes: number;
  readonly syncs: number;
  readonly index_bytes: number;
}

export interface LogOptions {
  /** Folder of the log; made if missing (its parent must exist). One process at a time: LOG_LOCKED. */
  readonly folder: string;
  /** 16 bytes naming cluster and replica; a folder written under another identity is refused: LOG_IDENTITY. */
  readonly identity: Uint8Array;
  /** Size of a segment file in bytes; a record must fit into one segment. Default 32 MiB. */
  readonly segment_bytes?: number;
  /** UNSAFE when false: appends are reported durable without a sync. For experiments only. Default true. */
  readonly sync?: boolean;
}

/**
 * The log. All errors are PhxError with a LOG_* code. After a failed write or sync the log is poisoned: that append and
 * every later one fail with LOG_POISONED and nothing is retried; reads of what was durable go on.
 */
export interface LogEngine {
  readonly engine: 'native' | 'portable';
  readonly recovery: RecoveryReport;
  /**
   * No segment could be prepared for what comes next: the disk is full. Callers refuse new work while it holds; what is
   * left of the newest segment serves the rest. It ends by itself when there is space again.
   */
  readonly low_on_space: boolean;

  /** Groups that have at least one record. */
  groups(): number[];
  bounds(group: number): InstanceBounds | null;
  has(group: number, instance: number): boolean;
  /** Latest body of a state record, or null. */
  state(group: number, slot: number): Uint8Array | null;

  /**
   * Appends the records in order, all of them or none. `done` is called once, later, with null when the records (and
   * all appended before) are on stable storage, or with the error. Calls of `done` come in the order of the appends.
   * All appends that wait share one write and one fdatasync. The bodies must stay unchanged until this turn of the
   * event loop, its microtasks included, is over.
   *
   * @throws PhxError SIZE_TOO_LARGE if the records together do not fit into one segment, PROPOSE_FAST_REJECT if more
   *   than 256 MiB wait for the disk, LOG_FULL if the newest segment is full and there is no space for another; nothing
   *   was appended then, and `done` is not called
   */
  append(records: readonly LogRecord[], done: (error: Error | null) => void): void;

  /**
   * Body of an entry, checksum verified, or null where there is none. An entry may be read from the moment its `done`
   * was called. Rejects with LOG_CORRUPT. The returned bytes are the caller's.
   */
  read(group: number, instance: number): Promise<Uint8Array | null>;

  /**
   * Entries of `group` with from <= instance <= through in ascending order, holes left out, until `bytes_max` bytes of
   * bodies are reached (at least one entry where there is any). Rejects with LOG_CORRUPT at the first damaged one.
   */
  readRange(group: number, from: number, through: number, bytes_max: number): Promise<LogEntry[]>;

  /**
   * Declares the entries of `group` below `before` dead; their segments are deleted once nothing live is in them, and
   * what lives in sparse ones is moved, so that the files take at most about twice the bytes that live. The caller has made
   * durable whatever replaces the entries. Not itself durable: after a crash dead entries may come back.
   */
  truncate(group: number, before: number): void;

  /**
   * Declares that all that a damaged record without a key, a missing segment or lost marks may have held has been replaced
   * by durable records or is not needed. The segments concerned are rewritten and removed; a later opening reports them no
   * more. Not itself durable until `settled()`.
   */
  forgetDamage(): void;

  stats(): LogStats;

  /** Resolves when nothing waits to be written, moved, deleted or prepared (or only waits for space on the disk). */
  settled(): Promise<void>;

  /** Waits for pending appends, syncs, releases the folder. Later calls fail with LOG_CLOSED. */
  close(): Promise<void>;
}
