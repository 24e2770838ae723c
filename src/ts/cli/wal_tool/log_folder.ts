/** A log's folder as a reader sees it. Takes no lock: the files of a running store move while they are read. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LOG_FOLDER } from '../../store/log_folder.js';
import { findHolder, isLockName } from '../../wal/folder_lock.js';
import {
  readSegmentHeader,
  SEGMENT_BYTES_MAX,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  segmentName,
  segmentOfName,
  segmentOfRetiredName,
  segmentOfSpareName,
  segmentSeed,
} from '../../wal/format.js';
import {
  crashExplains,
  MARKS_BYTES,
  MARKS_NAME,
  type MarksCopy,
  readSlots,
  slotIsBlank,
  UNFINISHED_MARKS_NAME,
} from '../../wal/marks.js';
import { openToRead } from '../../wal/node_files.js';
import { durableEnd, listSegments, type SegmentList } from '../../wal/segment_list.js';
import { type ScannedRecord, type SegmentScan, scanSegment } from '../../wal/segment_scan.js';
import { UsageError } from './arguments.js';

/** Looks at a folder whose segments are being removed, before what is missing counts as missing. */
const LOOKS_MAX = 5;
/** Readings of a segment that is being written, before what they agree on is taken. */
const READINGS_MAX = 5;

/** A place for a copy of the high-water marks. */
export interface FoundCopy {
  readonly state: 'sound' | 'blank' | 'unreadable';
  /** Null unless it is sound. */
  readonly copy: MarksCopy | null;
  readonly identity: Buffer | null;
}

export interface FoundMarksFile {
  readonly size_bytes: number;
  readonly copies: readonly FoundCopy[];
  readonly newest: MarksCopy | null;
  /** A crash may have made a copy unreadable. */
  readonly crash_explains: boolean;
}

/** A segment as it was read. `bytes` are valid until the next one is read. */
export interface FoundSegment {
  readonly id: number;
  readonly bytes: Buffer;
  /** Null if it is damaged. It may be the header of another segment or log. */
  readonly header: SegmentHeader | null;
  readonly seed: number;
  readonly scan: SegmentScan;
}

type OpenFile = typeof openToRead;

export interface ReadOptions {
  /** This process has taken the folder's lock: there is no other holder. */
  readonly own_lock?: boolean;
  /** How files are opened; tests look over its shoulder. */
  readonly openFile?: OpenFile;
}

interface Look {
  readonly holder: string | null;
  readonly names: readonly string[];
  readonly marks: FoundMarksFile | null;
  readonly segments: SegmentList;
}

export class LogFolder implements Look {
  readonly path: string;
  /** Lock of the living process that holds the folder, or null. */
  readonly holder: string | null;
  readonly names: readonly string[];
  readonly marks: FoundMarksFile | null;
  readonly segments: SegmentList;
  /** Of the segments and the spare, by the names of their files; null where damaged. */
  readonly headers: ReadonlyMap<string, SegmentHeader | null>;
  /** Whose log it is, or null if nothing readable says so. */
  readonly identity: Buffer | null;
  private readonly openFile: OpenFile;
  private buffer = Buffer.alloc(0);

  private constructor(
    path: string,
    look: Look,
    headers: ReadonlyMap<string, SegmentHeader | null>,
    openFile: OpenFile,
  ) {
    this.openFile = openFile;
    this.path = path;
    this.holder = look.holder;
    this.names = look.names;
    this.marks = look.marks;
    this.segments = look.segments;
    this.headers = headers;
    const newest = look.marks?.copies.find(({ copy }) => copy !== null && copy === look.marks?.newest);
    const first = [...headers.values()].find((header) => header !== null);
    this.identity = newest?.identity ?? first?.identity ?? null;
  }

  /**
   * Looks at the log in `path`, or in the data folder `path`.
   *
   * @throws UsageError if there is none, PhxError LOG_CORRUPT for a format of newer software, errors of the file system
   */
  static async open(path: string, options: ReadOptions = {}): Promise<LogFolder> {
    const openFile = options.openFile ?? openToRead;
    const folder = await logFolderOf(path);
    let look = await lookAt(folder, options);
    // The marks were read before the names: what has been removed in between is no longer listed at the next look.
    for (let looks = 1; looks < LOOKS_MAX && look.holder !== null && look.segments.missing.length > 0; looks++) {
      look = await lookAt(folder, options);
    }
    const headers = new Map<string, SegmentHeader | null>();
    const spares = look.names.filter((name) => segmentOfSpareName(name) !== null);
    for (const name of [...look.segments.ids.map(segmentName), ...spares]) {
      const block = await readHead(openFile, join(folder, name), SEGMENT_HEADER_BYTES);
      if (block !== null) headers.set(name, readSegmentHeader(block));
    }
    return new LogFolder(folder, look, headers, openFile);
  }

  /** Whether there are files of more than one log. Opening refuses such a folder. */
  get is_mixed(): boolean {
    const copies = this.marks?.copies ?? [];
    const identities = [...this.headers.values(), ...copies].map((found) => found?.identity?.toString('hex'));
    return new Set(identities.filter((identity) => identity !== undefined)).size > 1;
  }

  /** The newest segment, 0 if there is none. */
  get newest(): number {
    return this.segments.ids.at(-1) ?? 0;
  }

  /** Size of a file in bytes, null if it is gone. */
  async sizeOf(name: string): Promise<number | null> {
    return (await unlessGone(stat(join(this.path, name))))?.size ?? null;
  }

  /**
   * Reads and scans a segment. Null if it was removed since the folder was looked at. A batch that is being written
   * while it is read may look like damage; damage stays where it is, so only what the next reading finds again counts.
   */
  async scan(id: number, deliver: (record: ScannedRecord) => void): Promise<FoundSegment | null> {
    const moves = this.holder !== null && id === this.newest;
    let before = new Set<number>();
    for (let readings = 1; ; readings++) {
      const bytes = await this.read(id);
      if (bytes === null) return null;
      if (!moves) return this.scanBytes(id, bytes, deliver);
      const offsets = this.scanBytes(id, bytes, () => undefined).scan.corrupt.map(({ offset }) => offset);
      if (readings === READINGS_MAX || offsets.every((offset) => before.has(offset))) {
        const { scan, ...found } = this.scanBytes(id, bytes, deliver);
        return { ...found, scan: { ...scan, corrupt: scan.corrupt.filter(({ offset }) => before.has(offset)) } };
      }
      before = new Set(offsets);
    }
  }

  private scanBytes(id: number, bytes: Buffer, deliver: (record: ScannedRecord) => void): FoundSegment {
    const header = readSegmentHeader(bytes);
    const own = header !== null && header.segment === id ? header.identity : null;
    const seed = segmentSeed(own ?? this.identity ?? Buffer.alloc(0), id);
    const durable_end = durableEnd(id, this.segments.ids, this.marks?.newest ?? null);
    return { id, bytes, header, seed, scan: scanSegment(bytes, id, seed, durable_end, deliver) };
  }

  private async read(id: number): Promise<Buffer | null> {
    const path = join(this.path, segmentName(id));
    const file = await unlessGone(this.openFile(path));
    if (file === null) return this.gone(id);
    try {
      const size_bytes = await file.size();
      if (size_bytes > SEGMENT_BYTES_MAX) throw new UsageError(`${path} is larger than a segment can be (1 GiB)`);
      if (this.buffer.length < size_bytes) this.buffer = Buffer.from(new ArrayBuffer(size_bytes));
      const filled = await file.read(this.buffer.subarray(0, size_bytes), 0);
      // A file that lost its name is used for another segment. A name is never used again.
      if ((await unlessGone(stat(path))) === null) return this.gone(id);
      return this.buffer.subarray(0, filled);
    } finally {
      await file.close();
    }
  }

  private gone(id: number): null {
    if (this.holder !== null) return null;
    throw new UsageError(`${segmentName(id)} vanished while ${this.path} was read: something removes files there`);
  }
}

/** Says that the folder is in use. */
export function heldNote({ holder }: LogFolder): string {
  return `a living process holds the folder (${holder}): its tail may move while it is read`;
}

/** Whether a file of this name belongs to a log. */
function isLogFile(name: string): boolean {
  const segment = segmentOfName(name) ?? segmentOfSpareName(name) ?? segmentOfRetiredName(name);
  return segment !== null || name === MARKS_NAME || name === UNFINISHED_MARKS_NAME;
}

/** Names that are neither files of a log nor locks. */
export function otherNames(names: readonly string[]): string[] {
  return names.filter((name) => !isLogFile(name) && !isLockName(name));
}

async function logFolderOf(path: string): Promise<string> {
  for (const folder of [path, join(path, LOG_FOLDER)]) {
    const names = await unlessGone(readdir(folder)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTDIR') throw error;
      if (folder === path) throw new UsageError(`${path} is a file: give the folder that it lies in`);
      return null;
    });
    if (names === null && folder === path) throw new UsageError(`${path} does not exist: give a log or data folder`);
    if (names?.some(isLogFile) === true) return folder;
  }
  const advice = 'give a log folder (with 0000000001.seg or the like) or the DataDirPath of a store';
  throw new UsageError(`${path} holds no log: ${advice}`);
}

async function lookAt(folder: string, { own_lock = false, openFile = openToRead }: ReadOptions): Promise<Look> {
  const holder = own_lock ? null : await findHolder(folder);
  const marks = await readMarksFile(openFile, join(folder, MARKS_NAME));
  const names = (await readdir(folder)).sort();
  return { holder, names, marks, segments: listSegments(names, marks?.newest ?? null) };
}

async function readMarksFile(openFile: OpenFile, path: string): Promise<FoundMarksFile | null> {
  const head = await readHead(openFile, path, MARKS_BYTES);
  if (head === null) return null;
  const bytes = Buffer.concat([head, Buffer.alloc(MARKS_BYTES - head.length)]);
  const copies = readSlots(bytes).map((slot, index): FoundCopy => {
    if (slot !== null) return { state: 'sound', ...slot };
    return { state: slotIsBlank(bytes, index) ? 'blank' : 'unreadable', copy: null, identity: null };
  });
  const sound = copies.map(({ copy }) => copy).filter((copy) => copy !== null);
  const newest = sound.reduce<MarksCopy | null>((best, copy) => {
    return best === null || copy.sequence > best.sequence ? copy : best;
  }, null);
  return { size_bytes: head.length, copies, newest, crash_explains: crashExplains(bytes, newest) };
}

/** The first `bytes_max` bytes of a file, null if it is gone. */
async function readHead(openFile: OpenFile, path: string, bytes_max: number): Promise<Buffer | null> {
  const file = await unlessGone(openFile(path));
  if (file === null) return null;
  try {
    const bytes = Buffer.alloc(bytes_max);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

async function unlessGone<T>(promise: Promise<T>): Promise<T | null> {
  return promise.catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return null;
  });
}
