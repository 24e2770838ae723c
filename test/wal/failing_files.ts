/** Files of this machine that fail once when told to, and note what is asked of them. */
import type { FolderLock, LogFile, LogFiles } from '../../src/ts/wal/files.js';
import { NodeFiles } from '../../src/ts/wal/node_files.js';

export type Call = 'create' | 'write' | 'sync' | 'rename' | 'unlink' | 'syncFolder' | 'resize';

export class FailingFiles implements LogFiles {
  /** What was asked, in order. */
  readonly calls: Call[] = [];
  open_files = 0;
  private readonly real = new NodeFiles();
  private failing: { call: Call; after: number } | null = null;

  /** The call that comes after `after` others of its kind fails, like a full or broken disk; all others work. */
  failOn(call: Call, after = 0): void {
    this.failing = { call, after };
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
    return this.noted(await this.real.open(path));
  }

  async create(path: string): Promise<LogFile> {
    this.note('create');
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

  private noted(file: LogFile): LogFile {
    this.open_files++;
    return {
      size: () => file.size(),
      read: (target, position) => file.read(target, position),
      write: async (buffers, position) => {
        this.note('write');
        await file.write(buffers, position);
      },
      resize: async (size) => {
        this.note('resize');
        await file.resize(size);
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
