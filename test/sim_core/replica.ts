/** A simulated replica: a core, its disk and its clock. */
import type { Group } from '../../src/ts/paxos/core/group.js';
import type { Member } from '../../src/ts/paxos/core/roster.js';
import type { SimDisk } from './disk.js';

export class Replica {
  readonly id: number;
  readonly disk: SimDisk;
  /** The replica's clock: true time times `rate` plus `offset`. */
  readonly rate: number;
  offset_ms: number;
  group: Group | null = null;
  incarnation = 0;
  paused_until_ms = 0;
  /** Since when the machine sleeps: its monotonic clock stands still. */
  asleep_since_ms: number | null = null;
  applied_through = 0;
  backlog: (() => void)[] = [];
  /** Removed, and thrown away with its disk. */
  retired = false;
  /** Its disk was lost: it must not vote, and waits to be replaced. */
  wiped = false;
  /** Records of chosen values were damaged on its disk; whether they are repaired its core knows. */
  damaged = false;
  /** It has read another value than was chosen from its disk, and does not know it. */
  corrupted = false;

  constructor(id: number, disk: SimDisk, rate: number, offset_ms: number) {
    this.id = id;
    this.disk = disk;
    this.rate = rate;
    this.offset_ms = offset_ms;
  }
}

export function memberOf(id: number): Omit<Member, 'role'> {
  return { id, birth: id.toString(16).padStart(16, '0'), host: '127.0.0.1', port: 5_000 + id, site: '' };
}
