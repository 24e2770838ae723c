/**
 * The addon as TypeScript sees it (crates/wal/src/node.rs), and how it is found. Errors of the addon carry their code
 * at the start of the message: `LOG_LOCKED: ...`.
 */
import { createRequire } from 'node:module';
import { PhxError } from '../errors.js';

export interface NativeOptions {
  readonly folder: string;
  readonly identity: Uint8Array;
  readonly segmentBytes: number;
  readonly sync: boolean;
}

export interface NativeCorruptRecord {
  readonly segment: number;
  readonly offset: number;
  readonly group?: number;
  readonly instance?: number;
}

export interface NativeRecovery {
  readonly segments: number;
  readonly records: number;
  readonly bytes: number;
  readonly tornBytes: number;
  readonly corrupt: readonly NativeCorruptRecord[];
  readonly damagedMarks: number;
  readonly elapsedMs: number;
}

export interface NativeStats {
  readonly segments: number;
  readonly diskBytes: number;
  readonly liveBytes: number;
  readonly rewrittenBytes: number;
  readonly syncs: number;
  readonly indexBytes: number;
}

/** Entries packed into one buffer; `places` holds instance, start and length of each body. */
export interface NativeEntries {
  readonly bytes: Uint8Array;
  readonly places: Float64Array;
}

/** One log. Its methods do not wait for the disk, except those that return a promise. */
export interface NativeLog {
  recovery(): NativeRecovery;
  /** As it is now; of changes `committed` is told. */
  lowOnSpace(): boolean;
  groups(): number[];
  /** First and last instance, or nothing. */
  bounds(group: number): number[];
  has(group: number, instance: number): boolean;
  state(group: number, slot: number): Uint8Array | null;
  /**
   * Copies one append into the queue, or refuses it. The arguments are as `GatheredAppends` makes them: `keys` has four
   * numbers for each of the `records`.
   */
  append(keys: Float64Array, records: number, small: Uint8Array, parts: readonly Uint8Array[]): void;
  /** The same of the appends of a turn, which were found fit to be taken. */
  appendAccepted(keys: Float64Array, records: number, small: Uint8Array, parts: readonly Uint8Array[]): void;
  /** Keeps the process alive until `rest`: something is pending. */
  hold(): void;
  rest(): void;
  /**
   * At once what is in memory, unless it is much: then `places` gets the number of entries, then instance, start and length of
   * each. Else a promise.
   */
  readRange(
    group: number,
    from: number,
    through: number,
    bytesMax: number,
    places: Float64Array,
  ): Uint8Array | Promise<NativeEntries>;
  truncate(group: number, before: number): void;
  forgetDamage(): void;
  /** Asks for an answer by `settled` of NativeCommitted, and only so, to keep the order of what is told. */
  settle(): void;
  stats(): NativeStats;
  /** Writes what waits and the marks, releases the folder. */
  close(): Promise<void>;
}

/**
 * Called after each commit with the number of appends it completed, with the number of calls of `settle` that are answered,
 * and where `lowOnSpace` changed; `failure` ends all other appends.
 */
export type NativeCommitted = (
  appends: number,
  settled: number,
  lowOnSpace?: boolean | null,
  failure?: string | null,
) => void;

export interface NativeBinding {
  /** Must be that of this file: an addon of other sources may lie in native/. */
  readonly BINDING_VERSION: number;
  openLog(options: NativeOptions, committed: NativeCommitted): Promise<NativeLog>;
  /**
   * Scans an Add request (crates/wal/src/node_add.rs). Returns the byte at which the envelope is malformed, or -1; `result`
   * gets topic, store, queue, number of items, their bytes, those of another topic, the byte of a malformed item or -1.
   */
  scanAddRequestBody(body: Uint8Array, ownTopicId: number, result: Int32Array): number;
}

/** Rises with every change of these declarations, in crates/wal/src/node.rs too. */
const BINDING_VERSION = 3;

type Loaded = { readonly binding: NativeBinding } | { readonly reason: string };

let loaded: Loaded | null = null;

/** The addon, or why there is none; looked for once. */
export function loadNative(): Loaded {
  loaded ??= load();
  return loaded;
}

function load(): Loaded {
  let addon: unknown;
  try {
    addon = createRequire(import.meta.url)('#native');
  } catch (error) {
    return { reason: reasonOf(error) };
  }
  if (isBinding(addon)) return { binding: addon };
  return { reason: 'the native addon does not fit this version (npm run build makes it anew)' };
}

function isBinding(addon: unknown): addon is NativeBinding {
  if (typeof addon !== 'object' || addon === null) return false;
  if (!('BINDING_VERSION' in addon) || addon.BINDING_VERSION !== BINDING_VERSION) return false;
  return ['openLog', 'scanAddRequestBody'].every((name) => name in addon);
}

function reasonOf(error: unknown): string {
  const missing = error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND';
  if (missing) return 'the native addon is not built (npm run build makes it where Rust 1.88 or newer is installed)';
  const message = error instanceof Error ? error.message : String(error);
  return `the native addon does not load here: ${message.split('\n')[0] ?? ''}`;
}

const CODED_MESSAGE = /^(LOG_[A-Z]+|SIZE_TOO_LARGE|PROPOSE_FAST_REJECT): (.*)$/s;

/** The error of ours that an error of the addon stands for. One without a code is a defect and stays what it is. */
export function fromNativeError(error: unknown): unknown {
  const match = error instanceof Error ? CODED_MESSAGE.exec(error.message) : null;
  const message = match?.[2] ?? '';
  switch (match?.[1]) {
    case 'LOG_LOCKED':
    case 'LOG_IDENTITY':
    case 'LOG_CORRUPT':
    case 'LOG_FORMAT':
    case 'LOG_POISONED':
    case 'LOG_IO':
    case 'LOG_CLOSED':
    case 'SIZE_TOO_LARGE':
      return new PhxError(match[1], message, { cause: error });
    case 'PROPOSE_FAST_REJECT':
    case 'LOG_FULL':
      return new PhxError(match[1], message, { retryable: true, cause: error });
    default:
      return error;
  }
}
