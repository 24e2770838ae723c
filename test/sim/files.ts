/** The files of a simulated disk as one process sees them: each call takes simulated time, fails at times, or never returns. */
import { basename } from 'node:path';
import type { FolderLock, LogFile, LogFiles } from '../../src/ts/wal/files.js';
import type { Inode, SimDisk } from '../wal/sim_disk.js';
import type { Timeline } from './timeline.js';

export type Call = 'list' | 'open' | 'read' | 'create' | 'write' | 'sync' | 'rename' | 'unlink' | 'syncFolder';
export type FailureCode = 'EIO' | 'ENOSPC';

/** The machine below the files. */
export interface FilesHost {
  readonly timeline: Timeline;
  /** How long a call takes. */
  duration_ms(call: Call): number;
  /** Whether a call fails; `grows` if it needs space on the disk. */
  failureOf(call: Call, grows: boolean): FailureCode | null;
  /** The call had its effect, which is not durable yet; a sync is about to begin. The process may be dead afterwards. */
  called(call: Call, from: string, to: string): void;
  /** The process hears that a call failed. */
  failed(code: FailureCode): void;
  /** Runs what the process does next, once it can. */
  deliver(run: () => void): void;
}

/** Reads and writes less than asked before an error. */
const BYTES_BEFORE_ERROR = 700;

export class TimedFiles implements LogFiles {
  readonly #disk: SimDisk;
  readonly #host: FilesHost;
  #killed = false;

  constructor(disk: SimDisk, host: FilesHost) {
    this.#disk = disk;
    this.#host = host;
  }

  /** The process is dead: no call returns any more, and none has an effect. */
  kill(): void {
    this.#killed = true;
  }

  async makeFolder(): Promise<void> {}

  async lockFolder(): Promise<FolderLock> {
    return { release: async () => undefined };
  }

  list(): Promise<string[]> {
    return this.#call('list', () => this.#disk.list());
  }

  open(path: string): Promise<LogFile> {
    const name = basename(path);
    return this.#call('open', () => {
      const inode = this.#disk.find(name);
      if (inode === null) throw failed('ENOENT', 'open');
      return this.#fileOf(inode);
    });
  }

  create(path: string): Promise<LogFile> {
    const name = basename(path);
    return this.#call('create', () => this.#fileOf(this.#disk.create(name)));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#call('rename', () => this.#disk.rename(basename(from), basename(to)), basename(from), basename(to));
  }

  unlink(path: string): Promise<void> {
    return this.#call('unlink', () => this.#disk.unlink(basename(path)));
  }

  syncFolder(): Promise<void> {
    if (this.#killed) return NEVER;
    const succeed = this.#disk.beginSyncFolder();
    return this.#call('syncFolder', succeed);
  }

  #fileOf(inode: Inode): LogFile {
    return {
      size: async () => inode.size,
      read: (target, position) => this.#call('read', () => inode.read(target, position)),
      write: (buffers, position) => this.#write(inode, Buffer.concat(buffers), position),
      sync: () => this.#sync(inode),
      close: async () => undefined,
    };
  }

  #write(inode: Inode, bytes: Buffer, position: number): Promise<void> {
    if (this.#killed) return NEVER;
    const code = this.#host.failureOf('write', position + bytes.length > inode.size);
    const written = code === null ? bytes : bytes.subarray(0, code === 'EIO' ? BYTES_BEFORE_ERROR : 0);
    // A crash before it returns may leave any of its sectors.
    if (written.length > 0) this.#disk.write(inode, written, position);
    return this.#returns('write', code, () => undefined);
  }

  #sync(inode: Inode): Promise<void> {
    if (this.#killed) return NEVER;
    this.#host.called('sync', '', '');
    if (this.#killed) return NEVER;
    const { succeed, fail } = this.#disk.beginSync(inode);
    const code = this.#host.failureOf('sync', false);
    if (code !== null) fail();
    return this.#returns('sync', code, succeed);
  }

  #call<T>(call: Call, act: () => T, from = '', to = ''): Promise<T> {
    if (this.#killed) return NEVER;
    return this.#returns(call, this.#host.failureOf(call, call === 'create'), act, from, to);
  }

  /** Acts after the time that the call takes, then lets the process go on. */
  #returns<T>(call: Call, code: FailureCode | null, act: () => T, from = '', to = ''): Promise<T> {
    const host = this.#host;
    return new Promise<T>((resolve, reject) => {
      host.timeline.after(host.duration_ms(call), () => {
        if (this.#killed) return;
        if (code === null) {
          // What the process may not do, it is told when it comes to look.
          const result = attempt(act);
          if (call !== 'sync') host.called(call, from, to);
          host.deliver(() => ('error' in result ? reject(result.error) : resolve(result.value)));
          return;
        }
        host.deliver(() => {
          host.failed(code);
          reject(failed(code, call));
        });
      });
    });
  }
}

function attempt<T>(act: () => T): { readonly value: T } | { readonly error: unknown } {
  try {
    return { value: act() };
  } catch (error) {
    return { error };
  }
}

const NEVER = new Promise<never>(() => undefined);

function failed(code: string, call: Call): Error {
  return Object.assign(new Error(`${code}: ${call}`), { code });
}
