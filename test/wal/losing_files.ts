/**
 * A disk in memory that forgets, when the power goes, what was written since the last sync of a file. Names change at once.
 * It can be told to stop working at some call, as if the power went there.
 */
import { basename } from 'node:path';
import type { FolderLock, LogFile, LogFiles } from '../../src/ts/wal/files.js';

interface MemoryFile {
  written: Buffer;
  synced: Buffer;
  /** Ranges that were written since the last sync. */
  dirty: { readonly start: number; readonly end: number }[];
}

export class LosingFiles implements LogFiles {
  /** Calls that changed something. */
  calls = 0;
  /** From this call on everything fails. */
  power_until = Number.POSITIVE_INFINITY;
  #files = new Map<string, MemoryFile>();

  /** Another disk that holds what this one would hold if the power went now, or, `written`, if only the process died. */
  copy(kept: 'synced' | 'written'): LosingFiles {
    const copied = new LosingFiles();
    for (const [name, file] of this.#files) {
      copied.#files.set(name, { written: Buffer.from(file[kept]), synced: Buffer.from(file[kept]), dirty: [] });
    }
    return copied;
  }

  makeFolder(): Promise<void> {
    return Promise.resolve();
  }

  lockFolder(): Promise<FolderLock> {
    return Promise.resolve({ release: () => Promise.resolve() });
  }

  list(): Promise<string[]> {
    return Promise.resolve([...this.#files.keys()]);
  }

  async open(path: string): Promise<LogFile> {
    const file = this.#files.get(basename(path));
    if (file === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' });
    return this.#handle(file);
  }

  async create(path: string): Promise<LogFile> {
    this.#note();
    const file = { written: Buffer.alloc(0), synced: Buffer.alloc(0), dirty: [] };
    this.#files.set(basename(path), file);
    return this.#handle(file);
  }

  async rename(from: string, to: string): Promise<void> {
    this.#note();
    const file = this.#files.get(basename(from));
    if (file === undefined) throw new Error(`ENOENT: ${from}`);
    this.#files.delete(basename(from));
    this.#files.set(basename(to), file);
  }

  async unlink(path: string): Promise<void> {
    this.#note();
    this.#files.delete(basename(path));
  }

  async syncFolder(): Promise<void> {
    this.#note();
  }

  #note(): void {
    if (this.calls >= this.power_until) throw new Error('EIO: the power is gone');
    this.calls += 1;
  }

  #handle(file: MemoryFile): LogFile {
    return {
      size: () => Promise.resolve(file.written.length),
      read: (target, position) => Promise.resolve(file.written.copy(target, 0, position)),
      write: async (buffers, position) => {
        this.#note();
        const bytes = Buffer.concat(buffers);
        const end = position + bytes.length;
        file.written = grown(file.written, end);
        bytes.copy(file.written, position);
        file.dirty.push({ start: position, end });
      },
      sync: async () => {
        this.#note();
        file.synced = grown(file.synced, file.written.length);
        for (const { start, end } of file.dirty.splice(0)) file.written.copy(file.synced, start, start, end);
      },
      close: () => Promise.resolve(),
    };
  }
}

function grown(bytes: Buffer, length: number): Buffer {
  return length <= bytes.length ? bytes : Buffer.concat([bytes, Buffer.alloc(length - bytes.length)]);
}
