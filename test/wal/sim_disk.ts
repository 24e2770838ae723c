/**
 * A disk in memory, for crashes: it knows what is durable and what is merely written.
 *
 * The fault model. A write is pending until a sync of its file that was called after it has returned. Creations, renames and
 * removals are pending until a sync of the folder that was called after them has returned; a sync of a file makes no name
 * durable, one of the folder no bytes. A crash keeps any subset of what is pending, in any order of loss: of a write that
 * is kept any of its sectors of 512 bytes, new or as before, and where it made the file longer the length with zeros or
 * the old length. A name changes wholly or not at all: a rename that is kept takes the file away from whatever name it had.
 * A kill of the process loses nothing: what is pending stays readable and pending. A sync that fails leaves its writes pending
 * for ever: no later sync makes them durable, as with pages that the kernel marks clean.
 *
 * Not in the model: a sector that is torn within or that a write of a neighbour damages, bytes that rot (bit_rot.test.ts), a
 * sync that lies, truncation of a file that exists (the engine never does that), the folder itself being lost.
 */
import { assert } from '../../src/ts/errors.js';

export const SECTOR_BYTES = 512;

/** A write that is not durable. */
export interface PendingWrite {
  readonly position: number;
  readonly bytes: Buffer;
  /** A sync of it has failed: none will ever make it durable. */
  doomed: boolean;
}

/** A change of names that is not durable. */
export interface PendingName {
  readonly change: 'create' | 'rename' | 'unlink';
  readonly inode: Inode;
  /** The name it has from now on; null when it is removed. */
  readonly name: string | null;
}

/** A file, whatever its name. Durable bytes that somebody asked for are never changed, so that crashes can share them. */
export class Inode {
  pending: PendingWrite[] = [];
  private settled: Buffer;
  /** Somebody else may hold `settled`. */
  private shared = true;
  /** What a read sees; the durable bytes themselves until the first write. */
  private cache: Buffer;

  constructor(durable: Buffer) {
    this.settled = durable;
    this.cache = durable;
  }

  get durable(): Buffer {
    this.shared = true;
    return this.settled;
  }

  static copy(durable: Buffer, pending: readonly PendingWrite[]): Inode {
    const inode = new Inode(durable);
    for (const { bytes, position } of pending) inode.write(bytes, position);
    inode.pending = pending.map((write) => ({ ...write }));
    return inode;
  }

  get size(): number {
    return this.cache.length;
  }

  read(target: Uint8Array, position: number): number {
    const bytes = this.cache.subarray(position, position + target.length);
    target.set(bytes);
    return bytes.length;
  }

  write(bytes: Buffer, position: number): void {
    this.cache = over(this.cache, this.cache === this.settled, bytes, position);
    this.pending.push({ position, bytes, doomed: false });
  }

  /** Makes these writes durable. */
  settle(writes: ReadonlySet<PendingWrite>): void {
    const settled = this.pending.filter((write) => writes.has(write));
    if (settled.length === 0) return;
    this.pending = this.pending.filter((write) => !writes.has(write));
    for (const { bytes, position } of settled) {
      this.settled = over(this.settled, this.shared, bytes, position);
      this.shared = false;
    }
    for (const write of settled)
      this.pending = this.pending.flatMap((each) => (each.doomed ? outside(each, write) : [each]));
  }

  /** All bytes as they are seen now, to be kept. */
  bytes(): Buffer {
    return Buffer.from(this.cache);
  }
}

/** What is left of a write that failed to be synced, when `newer` was written over it and is durable. */
function outside({ position, bytes }: PendingWrite, newer: PendingWrite): PendingWrite[] {
  const before = bytes.subarray(0, Math.max(0, newer.position - position));
  const after = bytes.subarray(Math.max(0, newer.position + newer.bytes.length - position));
  const pieces =
    before.length === bytes.length
      ? [{ position, bytes }]
      : [
          { position, bytes: before },
          { position: position + bytes.length - after.length, bytes: after },
        ];
  return pieces.filter((piece) => piece.bytes.length > 0).map((piece) => ({ ...piece, doomed: true }));
}

/** `target` with `bytes` at `position`; a copy if it is shared or too short. */
function over(target: Buffer, shared: boolean, bytes: Uint8Array, position: number): Buffer {
  const end = position + bytes.length;
  let result = target;
  if (shared || end > target.length) {
    result = Buffer.alloc(Math.max(target.length, end));
    target.copy(result);
  }
  result.set(bytes, position);
  return result;
}

/** The disk at one moment. */
export interface DiskState {
  readonly names: ReadonlyMap<string, Inode>;
  readonly pending_names: readonly PendingName[];
  readonly files: readonly FileState[];
}

export interface FileState {
  readonly inode: Inode;
  readonly durable: Buffer;
  readonly pending: readonly PendingWrite[];
}

export class SimDisk {
  /** Rises with everything that changes what a crash may leave. */
  version = 0;
  /** Names as a process sees them. */
  private readonly names: Map<string, Inode>;
  private durable_names: Map<string, Inode>;
  private pending_names: PendingName[] = [];
  /** All files that a crash may show, also removed ones. */
  private readonly inodes = new Set<Inode>();

  /** A disk with these files, all durable. */
  constructor(files: ReadonlyMap<string, Buffer> = new Map()) {
    this.names = new Map([...files].map(([name, bytes]) => [name, new Inode(bytes)]));
    this.durable_names = new Map(this.names);
    for (const inode of this.names.values()) this.inodes.add(inode);
  }

  /** The disk after the process was killed at this moment: all is there, and what was pending still is. */
  static killed({ names, pending_names, files }: DiskState): SimDisk {
    const disk = new SimDisk();
    const copies = new Map(files.map(({ inode, durable, pending }) => [inode, Inode.copy(durable, pending)]));
    const copyOf = (inode: Inode): Inode => copies.get(inode) ?? inode;
    disk.durable_names = new Map([...names].map(([name, inode]) => [name, copyOf(inode)]));
    disk.pending_names = pending_names.map((change) => ({ ...change, inode: copyOf(change.inode) }));
    for (const inode of copies.values()) disk.inodes.add(inode);
    for (const [name, inode] of applyNames(disk.durable_names, disk.pending_names)) disk.names.set(name, inode);
    return disk;
  }

  list(): string[] {
    return [...this.names.keys()];
  }

  find(name: string): Inode | null {
    return this.names.get(name) ?? null;
  }

  nameOf(inode: Inode): string | null {
    for (const [name, other] of this.names) if (other === inode) return name;
    return null;
  }

  create(name: string): Inode {
    assert(!this.names.has(name), `the model knows no truncation, and ${name} exists`);
    const inode = new Inode(Buffer.alloc(0));
    this.inodes.add(inode);
    this.names.set(name, inode);
    this.change({ change: 'create', inode, name });
    return inode;
  }

  rename(from: string, to: string): void {
    const inode = this.names.get(from);
    assert(inode !== undefined, `${from} is there to be renamed`);
    this.names.delete(from);
    this.names.set(to, inode);
    this.change({ change: 'rename', inode, name: to });
  }

  unlink(name: string): void {
    const inode = this.names.get(name);
    assert(inode !== undefined, `${name} is there to be removed`);
    this.names.delete(name);
    this.change({ change: 'unlink', inode, name: null });
  }

  write(inode: Inode, bytes: Buffer, position: number): void {
    inode.write(bytes, position);
    this.version++;
  }

  /** Begins a sync of a file; the result ends it. What is written in between is not covered. */
  beginSync(inode: Inode): { succeed: () => void; fail: () => void } {
    const covered = inode.pending.filter((write) => !write.doomed);
    return {
      succeed: () => {
        inode.settle(new Set(covered));
        this.version++;
      },
      fail: () => {
        for (const write of covered) write.doomed = true;
      },
    };
  }

  /** Begins a sync of the folder; the result ends it. */
  beginSyncFolder(): () => void {
    const covered = new Set(this.pending_names);
    return () => {
      this.durable_names = applyNames(
        this.durable_names,
        this.pending_names.filter((change) => covered.has(change)),
      );
      this.pending_names = this.pending_names.filter((change) => !covered.has(change));
      this.forgetRemoved();
      this.version++;
    };
  }

  state(): DiskState {
    const files: FileState[] = [];
    for (const inode of this.inodes) {
      files.push({ inode, durable: inode.durable, pending: [...inode.pending] });
    }
    return { names: this.durable_names, pending_names: [...this.pending_names], files };
  }

  /** All files as a process sees them. */
  visible(): Map<string, Buffer> {
    return new Map([...this.names].map(([name, inode]) => [name, inode.bytes()]));
  }

  /** No crash shows a file again whose removal is durable. */
  private forgetRemoved(): void {
    const named = new Set([...this.names.values(), ...this.durable_names.values()]);
    for (const { inode } of this.pending_names) named.add(inode);
    for (const inode of this.inodes) if (!named.has(inode)) this.inodes.delete(inode);
  }

  private change(change: PendingName): void {
    this.pending_names.push(change);
    this.version++;
  }
}

/** The names after these changes, in order. */
export function applyNames(names: ReadonlyMap<string, Inode>, changes: readonly PendingName[]): Map<string, Inode> {
  const result = new Map(names);
  for (const { inode, name } of changes) {
    for (const [old, other] of result) if (other === inode) result.delete(old);
    if (name !== null) result.set(name, inode);
  }
  return result;
}
