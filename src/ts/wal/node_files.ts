/** The real disk behind `LogFiles`. All calls run on libuv's threads, none on the event loop. */
import { close, constants, fdatasync, fstat, fsync, open, read, write, writev } from 'node:fs';
import { mkdir, readdir, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { FolderLock, LogFile, LogFiles } from './files.js';
import { lockFolder } from './folder_lock.js';

type Done<T> = (error: Error | null, value: T) => void;

function call<T>(start: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error === null || error === undefined ? resolve(value) : reject(error)));
  });
}

class NodeFile implements LogFile {
  private readonly descriptor: number;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  async size(): Promise<number> {
    const stat = await call<{ size: number }>((done) => fstat(this.descriptor, done));
    return stat.size;
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    let filled = 0;
    while (filled < target.length) {
      const at = filled;
      const bytes = await call<number>((done) =>
        read(this.descriptor, target, at, target.length - at, position + at, done),
      );
      if (bytes === 0) break;
      filled += bytes;
    }
    return filled;
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let total = 0;
    for (const buffer of buffers) total += buffer.length;
    const written = await call<number>((done) => writev(this.descriptor, [...buffers], position, done));
    let skip = written;
    if (written === total) return;
    let at = position;
    for (const buffer of buffers) {
      const done = Math.min(skip, buffer.length);
      skip -= done;
      await this.writeRest(buffer, done, at);
      at += buffer.length;
    }
  }

  async sync(): Promise<void> {
    await call<void>((done) => fdatasync(this.descriptor, (error) => done(error, undefined)));
  }

  async close(): Promise<void> {
    await closeDescriptor(this.descriptor);
  }

  /** Writes `buffer` from `from` on; `position` is the place of its first byte. */
  private async writeRest(buffer: Uint8Array, from: number, position: number): Promise<void> {
    let at = from;
    while (at < buffer.length) {
      const start = at;
      at += await call<number>((done) =>
        write(this.descriptor, buffer, start, buffer.length - start, position + start, done),
      );
    }
  }
}

async function openDescriptor(path: string, flags: number): Promise<number> {
  return call<number>((done) => open(path, flags, 0o640, done));
}

function closeDescriptor(descriptor: number): Promise<void> {
  return call<void>((done) => close(descriptor, (error) => done(error ?? null, undefined)));
}

/** Opens an existing file to read only. */
export async function openToRead(path: string): Promise<LogFile> {
  return new NodeFile(await openDescriptor(path, constants.O_RDONLY));
}

/** The files of this machine. */
export class NodeFiles implements LogFiles {
  /** Descriptors of the folders that are locked: no sync of them lacks one. */
  private readonly folders = new Map<string, number>();

  async makeFolder(folder: string): Promise<void> {
    try {
      await mkdir(folder);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    // Also for a folder that exists: whoever made it may have died before its name was durable.
    await this.syncFolder(dirname(folder));
  }

  async lockFolder(folder: string): Promise<FolderLock> {
    const lock = await lockFolder(folder);
    try {
      const descriptor = await openDescriptor(folder, constants.O_RDONLY);
      this.folders.set(folder, descriptor);
      const release = async (): Promise<void> => {
        this.folders.delete(folder);
        await closeDescriptor(descriptor);
        await lock.release();
      };
      return { release };
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  list(folder: string): Promise<string[]> {
    return readdir(folder);
  }

  async open(path: string): Promise<LogFile> {
    return new NodeFile(await openDescriptor(path, constants.O_RDWR));
  }

  async create(path: string): Promise<LogFile> {
    return new NodeFile(await openDescriptor(path, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC));
  }

  rename(from: string, to: string): Promise<void> {
    return rename(from, to);
  }

  unlink(path: string): Promise<void> {
    return unlink(path);
  }

  async syncFolder(folder: string): Promise<void> {
    const open = this.folders.get(folder);
    const descriptor = open ?? (await openDescriptor(folder, constants.O_RDONLY));
    try {
      await call<void>((done) => fsync(descriptor, (error) => done(error, undefined)));
    } finally {
      if (open === undefined) await closeDescriptor(descriptor);
    }
  }
}
