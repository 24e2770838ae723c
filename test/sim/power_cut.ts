/** What a power cut leaves of a simulated disk, drawn at random within its fault model (test/wal/sim_disk.ts). */
import { applyNames, type FileState, type Inode, type PendingWrite, SECTOR_BYTES, SimDisk } from '../wal/sim_disk.js';
import type { Random } from './random.js';

type Fate = 'kept' | 'lost' | 'first' | 'some';
const FATES: readonly Fate[] = ['kept', 'lost', 'first', 'some', 'some'];

/** The disk after a power cut. */
export function afterPowerCut(disk: SimDisk, random: Random): SimDisk {
  const { names, pending_names, files } = disk.state();
  const fate = random.pick(FATES);
  const contents = new Map<Inode, Buffer>();
  for (const file of files) contents.set(file.inode, contentAfter(file, fate, random));
  const changes = kept(pending_names, random.pick(FATES), random);
  const found = new Map<string, Buffer>();
  for (const [name, inode] of applyNames(names, changes)) found.set(name, contents.get(inode) ?? Buffer.alloc(0));
  return new SimDisk(found);
}

function kept<T>(items: readonly T[], fate: Fate, random: Random): readonly T[] {
  switch (fate) {
    case 'kept':
      return items;
    case 'lost':
      return [];
    case 'first':
      return items.slice(0, random.integer(0, items.length));
    case 'some':
      return items.filter(() => random.chance(0.5));
  }
}

function contentAfter({ durable, pending }: FileState, fate: Fate, random: Random): Buffer {
  const writes = kept(pending, fate, random);
  if (writes.length === 0) return durable;
  const end = Math.max(durable.length, ...writes.map(({ position, bytes }) => position + bytes.length));
  const content = Buffer.alloc(end);
  durable.copy(content);
  let size = durable.length;
  for (const write of writes) size = Math.max(size, putSectors(content, write, random));
  return content.subarray(0, size);
}

/** Puts all, the first or any sectors of a write into `target`; returns the end of the last one. */
function putSectors(target: Buffer, { position, bytes }: PendingWrite, random: Random): number {
  const fate = random.pick(FATES);
  const end = position + bytes.length;
  const starts: number[] = [];
  for (let at = position; at < end; at = (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES) starts.push(at);
  // A file may have become longer without its bytes.
  let size = fate === 'lost' ? end : 0;
  for (const at of kept(starts, fate, random)) {
    const next = Math.min((Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES, end);
    bytes.copy(target, at, at - position, next - position);
    size = next;
  }
  return size;
}
