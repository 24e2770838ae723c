/** Files of this machine that fail once when told to, and note what is asked of them. */
import type { FolderLock, LogFile, LogFiles } from '../../src/ts/wal/files.js';
import { NodeFiles } from '../../src/ts/wal/node_files.js';

export type Call = 'create' | 'write' | 'sync' | 'rename' | 'unlink' | 'syncFolder';

export class FailingFiles implements LogFiles {
  /** What was asked, in order. */
  readonly calls: Call[] = [];
  open_files = 0;
  /** So many files may be open at once. */
  open_max = Number.POSITIVE_INFINITY;
  /** Reads of files, and the bytes that they asked for. */
  reads = 0;
  read_bytes = 0;
  /** Called when a file is to be made. */
  onCreate: () => void = () => undefined;
  private readonly real = new NodeFiles();
  private failing: { call: Call; after: number } | null = null;
  private full = false;

  /** The call that comes after `after` others of its kind fails, like a broken disk; all others work. */
  failOn(call: Call, after = 0): void {
    this.failing = { call, after };
  }

  /** While `full`, no file can be made, like on a full disk; those that are there can be written over. */
  setFull(full: boolean): void {
    this.full = full;
  }

  note(call: Call): void {
    this.calls.push(call);
    if (this.failing?.call !== call) return;
    if (this.failing.after > 0) {
      this.failing.after--;
      return;
    }
    this.failing = null;
    throw new Error(`EIO: ${call}`);
  }

  makeFolder(folder: string): Promise<void> {
    return this.real.makeFolder(folder);
  }

  lockFolder(folder: string): Promise<FolderLock> {
    return this.real.lockFolder(folder);
  }

  list(folder: string): Promise<string[]> {
    return this.real.list(folder);
  }

  async open(path: string): Promise<LogFile> {
    this.checkDescriptors();
    return this.noted(await this.real.open(path));
  }

  async create(path: string): Promise<LogFile> {
    this.note('create');
    this.onCreate();
    if (this.full) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    this.checkDescriptors();
    return this.noted(await this.real.create(path));
  }

  async rename(from: string, to: string): Promise<void> {
    this.note('rename');
    await this.real.rename(from, to);
  }

  async unlink(path: string): Promise<void> {
    this.note('unlink');
    await this.real.unlink(path);
  }

  async syncFolder(folder: string): Promise<void> {
    this.note('syncFolder');
    await this.real.syncFolder(folder);
  }

  private checkDescriptors(): void {
    if (this.open_files < this.open_max) return;
    throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
  }

  private noted(file: LogFile): LogFile {
    this.open_files++;
    return {
      size: () => file.size(),
      read: (target, position) => {
        this.reads++;
        this.read_bytes += target.length;
        return file.read(target, position);
      },
      write: async (buffers, position) => {
        this.note('write');
        await file.write(buffers, position);
      },
      sync: async () => {
        this.note('sync');
        await file.sync();
      },
      close: async () => {
        this.open_files--;
        await file.close();
      },
    };
  }
}
