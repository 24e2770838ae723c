/**
 * The files of segments. The log may have more of them than a process may have descriptors: those that nobody has read for
 * the longest time are closed, and opened again when they are read.
 */
import { assert } from '../errors.js';
import { isLackOfDescriptors, type LogFile, type LogFiles } from './files.js';

/** So many sealed segments are open at once, besides those that are being read. */
const SEALED_OPEN_MAX = 256;

/** The files that may be closed. */
export class OpenFiles {
  readonly files: LogFiles;
  /** The one that was used last is the last. */
  private readonly idle = new Set<SegmentFile>();

  constructor(files: LogFiles) {
    this.files = files;
  }

  /** Takes an open file; it stays open until it is released. */
  hold(path: string, file: LogFile): SegmentFile {
    return new SegmentFile(this, path, file);
  }

  /** Opens a file; for lack of a descriptor others are closed. */
  async open(path: string): Promise<LogFile> {
    try {
      return await this.files.open(path);
    } catch (error) {
      if (!isLackOfDescriptors(error)) throw error;
    }
    await this.closeAllBut(SEALED_OPEN_MAX / 4);
    return this.files.open(path);
  }

  /** It may be closed from now on. */
  async add(file: SegmentFile): Promise<void> {
    this.idle.add(file);
    if (this.idle.size > SEALED_OPEN_MAX) await this.closeAllBut(SEALED_OPEN_MAX);
  }

  /** It must stay open from now on. */
  remove(file: SegmentFile): void {
    this.idle.delete(file);
  }

  private async closeAllBut(kept: number): Promise<void> {
    for (const file of this.idle) {
      if (this.idle.size <= kept) return;
      await file.close();
    }
  }
}

export class SegmentFile {
  private readonly pool: OpenFiles;
  private readonly path: string;
  private handle: LogFile | null;
  private opening: Promise<LogFile> | null = null;
  /** It is not closed: it is written to, or its name is about to go. */
  private held = true;
  private reads = 0;

  constructor(pool: OpenFiles, path: string, handle: LogFile) {
    this.pool = pool;
    this.path = path;
    this.handle = handle;
  }

  /** The file of a segment that is held. */
  get writable(): LogFile {
    assert(this.held && this.handle !== null, 'the file is open');
    return this.handle;
  }

  /** As in LogFile. The file is opened if it is closed. */
  async read(target: Uint8Array, position: number): Promise<number> {
    this.reads++;
    this.pool.remove(this);
    try {
      const file = await this.opened();
      return await file.read(target, position);
    } finally {
      this.reads--;
      await this.rest();
    }
  }

  /** Opens it and keeps it open: whoever reads it does not depend on its name any more. */
  async hold(): Promise<void> {
    this.held = true;
    this.pool.remove(this);
    try {
      await this.opened();
    } catch (error) {
      this.held = false;
      throw error;
    }
  }

  /** From now on it is only read: it may be closed. */
  async release(): Promise<void> {
    this.held = false;
    await this.rest();
  }

  /** Closes it if it is open. Nobody reads it. */
  async close(): Promise<void> {
    this.pool.remove(this);
    const { handle } = this;
    this.handle = null;
    await handle?.close();
  }

  private async rest(): Promise<void> {
    if (this.reads === 0 && !this.held && this.handle !== null) await this.pool.add(this);
  }

  private async opened(): Promise<LogFile> {
    if (this.handle !== null) return this.handle;
    this.opening ??= this.pool.open(this.path).finally(() => {
      this.opening = null;
    });
    this.handle = await this.opening;
    return this.handle;
  }
}
