/**
 * What a crash may leave of a disk: every subset of what is pending where that is little, else a random choice of subsets; in
 * each of them the last write that is kept of a file is torn at each sector, or kept in some of its sectors.
 */
import type { Random } from '../sim/random.js';
import {
  applyNames,
  type DiskState,
  type FileState,
  type Inode,
  type PendingWrite,
  SECTOR_BYTES,
  SimDisk,
} from './sim_disk.js';

/** With more than this pending, subsets are chosen at random. */
export const PENDING_ENUMERATED_MAX = 6;
const RANDOM_SUBSETS = 200;

/** Which writes and names are kept, as a bit set over all that is pending; and how one write is torn. */
interface Choice {
  readonly kept: bigint;
  readonly torn: { readonly write: PendingWrite; readonly sectors: SectorChoice } | null;
}

/** Whether a sector of the write is kept, by its number; null for a length that grew without its bytes. */
type SectorChoice = { readonly keeps: (sector: number) => boolean; readonly name: string } | null;

export interface CrashImage {
  readonly disk: SimDisk;
  readonly what: string;
}

/** All images, each made when it is asked for. `random` is used only where not all of them are made. */
export function* crashImages(state: DiskState, random: Random): Generator<CrashImage> {
  const writes = state.files.flatMap((file) => file.pending.map((write) => ({ file, write })));
  const count = writes.length + state.pending_names.length;
  for (const kept of subsets(count, random)) {
    yield imageOf(state, { kept, torn: null });
    for (const file of state.files) {
      const last = file.pending.findLast((write) =>
        isKept(
          kept,
          writes.findIndex((each) => each.write === write),
        ),
      );
      if (last === undefined) continue;
      for (const sectors of tears(file, last, random)) yield imageOf(state, { kept, torn: { write: last, sectors } });
    }
  }
}

/** At most `count_max` different ones of all images, among them those in which everything and nothing is kept. */
export function sampledImages(state: DiskState, random: Random, count_max: number): CrashImage[] {
  const writes = state.files.flatMap((file) => file.pending.map((write) => ({ file, write })));
  const count = writes.length + state.pending_names.length;
  const images = new Map<string, CrashImage>();
  const add = (choice: Choice): void => {
    const what = describe(state, choice);
    if (!images.has(what) && images.size < count_max) images.set(what, imageOf(state, choice));
  };
  add({ kept: 0n, torn: null });
  add({ kept: (1n << BigInt(count)) - 1n, torn: null });
  for (let attempt = 0; count > 0 && attempt < 2 * count_max; attempt++) {
    const kept = randomSubset(count, random);
    const candidates = writes.filter((_, index) => isKept(kept, index));
    const file = candidates.length === 0 ? null : random.pick(candidates).file;
    const write = candidates.findLast((each) => each.file === file)?.write;
    const sectors = file === null || write === undefined ? [] : tears(file, write, random);
    const whole = write === undefined || sectors.length === 0 || random.chance(0.3);
    add({ kept, torn: whole ? null : { write, sectors: random.pick(sectors) } });
  }
  return [...images.values()];
}

function subsets(count: number, random: Random): bigint[] {
  if (count <= PENDING_ENUMERATED_MAX) return Array.from({ length: 1 << count }, (_, kept) => BigInt(kept));
  const all = (1n << BigInt(count)) - 1n;
  return [0n, all, ...Array.from({ length: RANDOM_SUBSETS - 2 }, () => randomSubset(count, random))];
}

function randomSubset(count: number, random: Random): bigint {
  let kept = 0n;
  for (let index = 0; index < count; index++) if (random.chance(0.5)) kept |= 1n << BigInt(index);
  return kept;
}

function isKept(kept: bigint, index: number): boolean {
  return ((kept >> BigInt(index)) & 1n) === 1n;
}

/** The ways in which a write is kept in part. */
function tears(file: FileState, write: PendingWrite, random: Random): SectorChoice[] {
  const sectors = sectorsOf(write);
  const grows = write.position + write.bytes.length > file.durable.length;
  const ways: SectorChoice[] = grows ? [null] : [];
  for (let cut = 1; cut < sectors; cut++) {
    ways.push({ keeps: (sector) => sector < cut, name: `the first ${cut} of ${sectors} sectors` });
  }
  if (sectors < 2) return ways;
  ways.push({ keeps: (sector) => sector === sectors - 1, name: 'its last sector only' });
  const mask = Array.from({ length: sectors }, () => random.chance(0.5));
  ways.push({ keeps: (sector) => mask[sector] === true, name: `some of ${sectors} sectors` });
  return ways;
}

function sectorsOf({ position, bytes }: PendingWrite): number {
  const first = Math.floor(position / SECTOR_BYTES);
  return Math.ceil((position + bytes.length) / SECTOR_BYTES) - first;
}

function imageOf(state: DiskState, choice: Choice): CrashImage {
  const { kept, torn } = choice;
  let index = 0;
  const contents = new Map<Inode, Buffer>();
  for (const { inode, durable, pending } of state.files) {
    const writes = pending.filter(() => isKept(kept, index++));
    contents.set(inode, writes.length === 0 ? durable : written(durable, writes, torn));
  }
  const changes = state.pending_names.filter(() => isKept(kept, index++));
  const files = new Map<string, Buffer>();
  for (const [name, inode] of applyNames(state.names, changes)) files.set(name, contents.get(inode) ?? Buffer.alloc(0));
  return { disk: new SimDisk(files), what: describe(state, choice) };
}

function written(durable: Buffer, writes: readonly PendingWrite[], torn: Choice['torn']): Buffer {
  const end = Math.max(durable.length, ...writes.map(({ position, bytes }) => position + bytes.length));
  const result = Buffer.alloc(end);
  durable.copy(result);
  let size = durable.length;
  for (const write of writes) {
    const { position, bytes } = write;
    const sectors = torn?.write === write ? torn.sectors : WHOLE;
    if (sectors === null) size = Math.max(size, position + bytes.length);
    else size = Math.max(size, copySectors(result, write, sectors.keeps));
  }
  return result.subarray(0, size);
}

const WHOLE: SectorChoice = { keeps: () => true, name: 'whole' };

/** Returns the end of the last sector that was kept. */
function copySectors(target: Buffer, { position, bytes }: PendingWrite, keeps: (sector: number) => boolean): number {
  const first = Math.floor(position / SECTOR_BYTES);
  let end = 0;
  for (let at = position; at < position + bytes.length; ) {
    const sector = Math.floor(at / SECTOR_BYTES);
    const next = Math.min((sector + 1) * SECTOR_BYTES, position + bytes.length);
    if (keeps(sector - first)) {
      bytes.copy(target, at, at - position, next - position);
      end = next;
    }
    at = next;
  }
  return end;
}

function describe(state: DiskState, { kept, torn }: Choice): string {
  let index = 0;
  const parts: string[] = [];
  for (const { pending } of state.files) {
    for (const write of pending) {
      if (!isKept(kept, index++)) continue;
      const how = torn?.write === write ? ` (${torn.sectors?.name ?? 'its length only'})` : '';
      parts.push(`write ${write.position}+${write.bytes.length}${how}`);
    }
  }
  for (const { change, name } of state.pending_names) if (isKept(kept, index++)) parts.push(`${change} ${name ?? ''}`);
  const pending = index === 1 ? '1 pending operation' : `${index} pending operations`;
  return `${pending}, kept: ${parts.length === 0 ? 'nothing' : parts.join(', ')}`;
}
