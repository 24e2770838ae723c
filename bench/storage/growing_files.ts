/**
 * The files of this machine, except that segments grow: nothing is written ahead, and no file is used again. With these
 * the portable engine frames, gathers and syncs as ever, and each sync also has to make new blocks of the file durable. It
 * is the baseline that shows what the layout of the log brings.
 */
import type { FolderLock, LogFile, LogFiles } from '../../src/ts/wal/files.js';
import { SEGMENT_HEADER_BYTES } from '../../src/ts/wal/format.js';
import { NodeFiles } from '../../src/ts/wal/node_files.js';

export class GrowingFiles implements LogFiles {
  private readonly files = new NodeFiles();

  async create(path: string): Promise<LogFile> {
    const file = await this.files.create(path);
    return path.endsWith('.seg.new') ? new GrowingFile(file) : file;
  }

  /** A file that was a segment before is emptied when it is opened to become the spare. */
  async open(path: string): Promise<LogFile> {
    return path.endsWith('.seg.old') ? new GrowingFile(await this.files.create(path)) : this.files.open(path);
  }

  makeFolder(folder: string): Promise<void> {
    return this.files.makeFolder(folder);
  }

  lockFolder(folder: string): Promise<FolderLock> {
    return this.files.lockFolder(folder);
  }

  list(folder: string): Promise<string[]> {
    return this.files.list(folder);
  }

  rename(from: string, to: string): Promise<void> {
    return this.files.rename(from, to);
  }

  unlink(path: string): Promise<void> {
    return this.files.unlink(path);
  }

  syncFolder(folder: string): Promise<void> {
    return this.files.syncFolder(folder);
  }
}

/** Leaves out what the engine writes before the segment's header: the zeros that would fill the file. */
class GrowingFile implements LogFile {
  private readonly file: LogFile;
  private begun = false;

  constructor(file: LogFile) {
    this.file = file;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    if (position === 0 && buffers[0]?.length === SEGMENT_HEADER_BYTES) this.begun = true;
    if (this.begun) await this.file.write(buffers, position);
  }

  async sync(): Promise<void> {
    if (this.begun) await this.file.sync();
  }

  size(): Promise<number> {
    return this.file.size();
  }

  read(target: Uint8Array, position: number): Promise<number> {
    return this.file.read(target, position);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
