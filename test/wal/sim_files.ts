/** The files of a simulated disk as one process sees them. It can be told of each call, make it fail, and be killed. */
import { basename } from 'node:path';
import type { FolderLock, LogFile, LogFiles } from '../../src/ts/wal/files.js';
import type { Random } from '../sim/random.js';
import type { Inode, SimDisk } from './sim_disk.js';

export type CallKind = 'list' | 'open' | 'read' | 'create' | 'write' | 'sync' | 'rename' | 'unlink' | 'syncFolder';

export interface SimCall {
  readonly kind: CallKind;
  /** What the file is called at the time, empty for the folder and for a file that was removed. */
  readonly name: string;
}

/** How a call fails; a write leaves its first `bytes_written` bytes. */
export interface SimFailure {
  readonly code: string;
  readonly bytes_written: number;
}

export interface SimFilesOptions {
  /** Draws how long a call takes, in turns of the microtask queue. */
  readonly random: Random;
  /** Told of each call when its effect is there and not durable yet. */
  readonly onCall?: (call: SimCall) => void;
  /** Asked before each call: whether it fails. */
  readonly failureOf?: (call: SimCall) => SimFailure | null;
}

/** Some calls are at once, some take as long as several others one after the other. */
const TURNS_MAX = [0, 2, 5, 30];

export class SimFiles implements LogFiles {
  readonly disk: SimDisk;
  open_files = 0;
  locks = 0;
  private readonly options: SimFilesOptions;
  private killed = false;

  constructor(disk: SimDisk, options: SimFilesOptions) {
    this.disk = disk;
    this.options = options;
  }

  /** No call returns any more, and none has an effect. */
  kill(): void {
    this.killed = true;
  }

  async makeFolder(_folder: string): Promise<void> {
    await this.take();
  }

  async lockFolder(_folder: string): Promise<FolderLock> {
    this.locks++;
    return {
      release: async () => {
        this.locks--;
      },
    };
  }

  async list(_folder: string): Promise<string[]> {
    await this.begin({ kind: 'list', name: '' });
    return this.disk.list();
  }

  async open(path: string): Promise<LogFile> {
    const name = basename(path);
    await this.begin({ kind: 'open', name });
    const inode = this.disk.find(name);
    if (inode === null) throw failed('ENOENT', 'open', name);
    return this.fileOf(inode);
  }

  async create(path: string): Promise<LogFile> {
    const name = basename(path);
    await this.begin({ kind: 'create', name });
    const inode = this.disk.create(name);
    await this.end({ kind: 'create', name });
    return this.fileOf(inode);
  }

  async rename(from: string, to: string): Promise<void> {
    const call: SimCall = { kind: 'rename', name: basename(from) };
    await this.begin(call);
    this.disk.rename(basename(from), basename(to));
    await this.end(call);
  }

  async unlink(path: string): Promise<void> {
    const call: SimCall = { kind: 'unlink', name: basename(path) };
    await this.begin(call);
    this.disk.unlink(call.name);
    await this.end(call);
  }

  async syncFolder(_folder: string): Promise<void> {
    const call: SimCall = { kind: 'syncFolder', name: '' };
    await this.begin(call);
    const succeed = this.disk.beginSyncFolder();
    await this.end(call);
    succeed();
  }

  private fileOf(inode: Inode): LogFile {
    this.open_files++;
    return {
      size: async () => inode.size,
      read: async (target, position) => {
        await this.begin({ kind: 'read', name: this.disk.nameOf(inode) ?? '' });
        return inode.read(target, position);
      },
      write: (buffers, position) => this.write(inode, Buffer.concat(buffers), position),
      sync: () => this.sync(inode),
      close: async () => {
        this.open_files--;
      },
    };
  }

  private async write(inode: Inode, bytes: Buffer, position: number): Promise<void> {
    const call: SimCall = { kind: 'write', name: this.disk.nameOf(inode) ?? '' };
    const failure = this.options.failureOf?.(call) ?? null;
    await this.take();
    const written = failure === null ? bytes : bytes.subarray(0, failure.bytes_written);
    if (written.length > 0) this.disk.write(inode, written, position);
    await this.end(call);
    if (failure !== null) throw failed(failure.code, 'write', call.name);
  }

  private async sync(inode: Inode): Promise<void> {
    const call: SimCall = { kind: 'sync', name: this.disk.nameOf(inode) ?? '' };
    const failure = this.options.failureOf?.(call) ?? null;
    await this.take();
    const { succeed, fail } = this.disk.beginSync(inode);
    await this.end(call);
    if (failure === null) return succeed();
    fail();
    throw failed(failure.code, 'fdatasync', call.name);
  }

  /** The time until a call has its effect. */
  private async begin(call: SimCall): Promise<void> {
    const failure = this.options.failureOf?.(call) ?? null;
    await this.take();
    if (failure !== null) throw failed(failure.code, call.kind, call.name);
  }

  /** The time from its effect until it returns. */
  private async end(call: SimCall): Promise<void> {
    this.options.onCall?.(call);
    await this.take();
  }

  private async take(): Promise<void> {
    const { random } = this.options;
    const turns = random.integer(0, random.pick(TURNS_MAX));
    for (let turn = 0; turn < turns; turn++) await null;
    if (this.killed) await new Promise(() => {});
  }
}

function failed(code: string, what: string, name: string): Error {
  return Object.assign(new Error(`${code}: ${what} '${name}'`), { code });
}
