/** Who is there, who leads, and how everybody is: what the simulator knows and no replica does. */
import { PhxError } from '../../src/ts/errors.js';
import type { Replica } from './replica.js';

export class Census {
  readonly replicas: Replica[] = [];

  /** Those that were not thrown away. */
  get living(): Replica[] {
    return this.replicas.filter(({ retired }) => !retired);
  }

  get leader(): Replica | undefined {
    return this.replicas.find(({ group }) => group?.role === 'leader');
  }

  /** The newest members, according to the leader. */
  get members(): Replica[] {
    const newest = this.leader?.group?.configurations.at(-1);
    return this.replicas.filter(({ id }) => newest?.members.some((member) => member.id === id) === true);
  }

  get impaired(): Replica[] {
    return this.living.filter(
      ({ wiped, corrupted, damaged, group }) => wiped || corrupted || (damaged && group?.repairing !== false),
    );
  }

  /** Whether what one disk loses is on the others: nobody else misses anything, and no change is on its way. */
  get sparesOne(): boolean {
    const group = this.leader?.group;
    const newest = group?.configurations.at(-1);
    if (group === undefined || group === null || newest === undefined || group.chosen_through < newest.from)
      return false;
    const voters = newest.members.filter(({ role }) => role === 'voter');
    const found = this.replicas.filter(({ id }) => voters.some((voter) => voter.id === id));
    const holding = found.filter(({ applied_through }) => applied_through >= newest.from);
    return this.impaired.length === 0 && voters.length >= 3 && 2 * holding.length > voters.length;
  }

  /** Those that believe to be master. Whoever sleeps serves nobody; what it believes when it wakes up is another matter. */
  masters(clock: (replica: Replica) => number): Replica[] {
    return this.replicas.filter(
      (replica) => replica.asleep_since_ms === null && replica.group?.isMaster(clock(replica)) === true,
    );
  }

  /** A follower that knows more to be chosen than another one, which knows all up to `behind`; null if all is too fragile. */
  get exposed(): { readonly ahead: Replica; readonly behind: number } | null {
    const followers = this.members.filter((replica) => replica !== this.leader && replica.group !== null);
    const behind = Math.min(...followers.map(({ group }) => group?.chosen_through ?? 0));
    const ahead = followers.find(({ group }) => group !== null && group.chosen_through > behind);
    return ahead === undefined || !this.sparesOne ? null : { ahead, behind };
  }

  /** The leader, and those that a change takes away, or brings, as far as this replica knows. */
  sideOf({ group }: Replica, side: 'leaving' | 'coming'): ReadonlySet<number> {
    const old = group?.configurations.at(0)?.members.map(({ id }) => id) ?? [];
    const now = group?.configurations.at(-1)?.members.map(({ id }) => id) ?? [];
    const some = side === 'leaving' ? old.filter((id) => !now.includes(id)) : now.filter((id) => !old.includes(id));
    return new Set(this.leader === undefined ? some : [this.leader.id, ...some]);
  }

  /** Whether it is right that a replica stops with this error: somebody has read a wrong value. */
  mayStop(replica: Replica, error: unknown): boolean {
    const diverged = error instanceof PhxError && error.code === 'LOG_DIVERGED';
    if (!diverged || replica.corrupted) return diverged;
    // Of two replicas that differ nobody can tell which is right.
    const voters = replica.group?.configurations.at(-1)?.members.filter(({ role }) => role === 'voter') ?? [];
    return voters.length <= 2 && this.living.some(({ corrupted }) => corrupted);
  }

  /** All members have applied the same, and nobody misses anything. */
  get isWhole(): boolean {
    const [first, ...rest] = this.members.map(({ applied_through }) => applied_through);
    const impaired = this.impaired.some((replica) => this.members.includes(replica));
    return rest.every((applied) => applied === first) && !impaired;
  }

  toString(): string {
    return this.living.map((replica) => describe(replica)).join('; ');
  }
}

function describe({ id, group, wiped, corrupted }: Replica): string {
  if (group === null) return `${id}: down`;
  const members = group.configurations.map(({ from, members: list }) => `${list.map((each) => each.id)} from ${from}`);
  const flags = [wiped ? 'wiped' : '', corrupted ? 'corrupted' : '', group.repairing ? 'repairing' : ''].join(' ');
  return `${id}: ${group.role} ${flags} applied ${group.applied_through}, members ${members.join(', ')}`;
}
