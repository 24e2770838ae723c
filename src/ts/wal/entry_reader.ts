/** Reads entries back from the segment files of a log and verifies them. */
import { assert, PhxError } from '../errors.js';
import type { LogContents, Segment } from './contents.js';
import { crc32c } from './crc32c.js';
import { type LogEntry, RecordKind } from './engine.js';
import type { LocatedEntry, Location } from './entry_index.js';
import { isLackOfDescriptors } from './files.js';
import { emptyHeader, RECORD_HEADER_BYTES, readRecordHeader, recordBytes, segmentSeed } from './format.js';

/** Entries that lie within this distance may be fetched by one read, of at most the second size unless one is larger. */
const READ_GAP_BYTES_MAX = 64 * 1024;
const READ_BYTES_MAX = 1024 * 1024;
/**
 * A read fetches at most so many times the bytes of its entries: what lies between them is of other groups, of which there
 * may be many.
 */
const READ_RATIO_MAX = 4;
/** Reads under way for one call. */
const READS_AT_ONCE_MAX = 64;

export class EntryReader {
  private readonly contents: LogContents;
  private readonly identity: Uint8Array;
  private reads = 0;
  private idle: (() => void) | null = null;

  constructor(contents: LogContents, identity: Uint8Array) {
    this.contents = contents;
    this.identity = identity;
  }

  /** As in LogEngine. */
  async read(group: number, instance: number): Promise<Uint8Array | null> {
    const location = this.contents.entries.get(group, instance);
    if (location === null) return null;
    const [entry] = await this.readLocated(group, [{ instance, ...location }]);
    return entry?.body ?? null;
  }

  /** As in LogEngine. */
  readRange(group: number, from: number, through: number, bytes_max: number): Promise<LogEntry[]> {
    return this.readLocated(group, this.contents.entries.range(group, from, through, bytes_max));
  }

  /** Resolves when no read is under way. The caller starts no more. */
  async whenIdle(): Promise<void> {
    if (this.reads === 0) return;
    await new Promise<void>((resolve) => {
      this.idle = resolve;
    });
  }

  private async readLocated(group: number, located: readonly LocatedEntry[]): Promise<LogEntry[]> {
    // All segments at once: a truncation in the midst of the reads must not take a file away.
    const segments = new Map<number, Segment>();
    for (const { segment } of located) {
      if (!segments.has(segment)) segments.set(segment, this.contents.segment(segment));
    }
    for (const segment of segments.values()) segment.readers++;
    this.reads++;
    try {
      return await this.readRuns(group, segments, runsOf(located));
    } finally {
      for (const segment of segments.values()) {
        segment.readers--;
        if (segment.retired && segment.readers === 0) await segment.file.close();
      }
      this.reads--;
      if (this.reads === 0) this.idle?.();
    }
  }

  /** Several at once: each takes a way through another thread. */
  private async readRuns(
    group: number,
    segments: ReadonlyMap<number, Segment>,
    runs: readonly Run[],
  ): Promise<LogEntry[]> {
    const bytes = Buffer.allocUnsafeSlow(runs.reduce((sum, run) => sum + run.end - run.start, 0));
    const entries: LogEntry[] = [];
    let at = 0;
    for (let first = 0; first < runs.length; first += READS_AT_ONCE_MAX) {
      const reads = runs.slice(first, first + READS_AT_ONCE_MAX).map((run) => {
        const target = bytes.subarray(at, at + run.end - run.start);
        at += target.length;
        return this.readRun(group, segments, run, target);
      });
      // All of them have ended before the first that failed is told.
      for (const read of await Promise.allSettled(reads)) {
        if (read.status === 'rejected') throw read.reason;
        entries.push(...read.value);
      }
    }
    return entries;
  }

  private async readRun(
    group: number,
    segments: ReadonlyMap<number, Segment>,
    run: Run,
    bytes: Buffer,
  ): Promise<LogEntry[]> {
    const segment = segments.get(run.segment);
    assert(segment !== undefined, 'the segments of all entries were looked up');
    const filled = await segment.file.read(bytes, run.start).catch((cause: unknown) => {
      const what = `cannot read segment ${run.segment} of the log (group ${group})`;
      throw new PhxError(isLackOfDescriptors(cause) ? 'LOG_IO' : 'LOG_CORRUPT', what, { cause });
    });
    bytes.fill(0, filled);
    return run.entries.map((entry) => {
      const body = this.checkedBody(bytes, entry.offset - run.start, entry, group, entry.instance);
      return { instance: entry.instance, body };
    });
  }

  private checkedBody(bytes: Buffer, at: number, location: Location, group: number, instance: number): Uint8Array {
    const header = emptyHeader();
    const seed = segmentSeed(this.identity, location.segment);
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

/** Entries that are fetched by one read of `segment` from `start` to `end`. */
interface Run {
  readonly segment: number;
  readonly start: number;
  end: number;
  /** Bytes of the records that are asked for. */
  wanted: number;
  readonly entries: LocatedEntry[];
}

function runsOf(located: readonly LocatedEntry[]): Run[] {
  const runs: Run[] = [];
  let run: Run | null = null;
  for (const entry of located) {
    const bytes = recordBytes(entry.body_bytes);
    const end = entry.offset + bytes;
    if (run !== null && isNear(run, entry, end, run.wanted + bytes)) {
      run.end = end;
      run.wanted += bytes;
      run.entries.push(entry);
    } else {
      run = { segment: entry.segment, start: entry.offset, end, wanted: bytes, entries: [entry] };
      runs.push(run);
    }
  }
  return runs;
}

/** Whether the entry that ends at `end` is fetched with the run, of which `wanted` bytes are asked for then. */
function isNear(run: Run, entry: LocatedEntry, end: number, wanted: number): boolean {
  const gap = entry.offset - run.end;
  const bytes = end - run.start;
  const close = entry.segment === run.segment && gap >= 0 && gap <= READ_GAP_BYTES_MAX;
  return close && bytes <= READ_BYTES_MAX && bytes <= READ_RATIO_MAX * wanted;
}
