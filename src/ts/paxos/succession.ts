/**
 * Gives a place whose replica lost its vote to the replica that joins there, in the groups that this replica leads: the joining
 * one becomes a learner, and once it has caught up it takes the place of its predecessor, which nobody needs any more then.
 * Each step is a change of the members, chosen by a majority of those that are there; nothing of it is remembered here.
 */

import { PhxError } from '../errors.js';
import type { Group } from './core/group.js';
import type { Configuration } from './core/members.js';
import type { Member } from './core/roster.js';
import type { MembersChange } from './core/types.js';
import { freeIdAt, memberBorn, placeOf } from './places.js';
import type { Replica } from './replicated_log.js';
import type { Birth } from './report.js';
import type { TransportLogger } from './transport.js';

/** A change that was refused, or whose outcome is not known yet, is asked for again after so long. */
const RETRY_MS = 1_000;

/** A replica that is connected, and joins. */
export interface Joiner {
  readonly replica: Replica;
  readonly birth: Birth;
}

export interface SuccessionParts {
  readonly groups: readonly Pick<Group, 'role' | 'configurations' | 'appliedAt'>[];
  readonly joiners: () => readonly Joiner[];
  readonly logger: TransportLogger;
  /** Resolves once the change is chosen. Rejects with PhxError. */
  readonly change: (group: number, change: MembersChange) => Promise<unknown>;
}

export class Succession {
  readonly #parts: SuccessionParts;
  /** By group: when a change was last asked for, and how many were. */
  readonly #asked = new Map<number, { readonly at_ms: number; readonly times: number }>();
  /** Groups and places that ran out of ids: it was said once. */
  readonly #used_up = new Set<string>();
  #next = 0;

  constructor(parts: SuccessionParts) {
    this.#parts = parts;
  }

  /** To be called often: changes the members of one group at most, each group in its turn. */
  tick(now_ms: number): void {
    const { groups } = this.#parts;
    const joiners = this.#parts.joiners();
    if (joiners.length === 0) return;
    for (let looked = 0; looked < groups.length; looked += 1) {
      const group = this.#next;
      this.#next = (group + 1) % groups.length;
      const { at_ms, times } = this.#asked.get(group) ?? { at_ms: Number.NEGATIVE_INFINITY, times: 0 };
      if (now_ms - at_ms < RETRY_MS) continue;
      // In turn: one that lags, and is refused for it, must not keep another one from its vote.
      const first = times % joiners.length;
      const wanted = this.#changeFor(group, [...joiners.slice(first), ...joiners.slice(0, first)]);
      if (wanted === null) continue;
      this.#asked.set(group, { at_ms: now_ms, times: times + 1 });
      this.#change(group, wanted);
      return;
    }
  }

  #change(group: number, wanted: MembersChange): void {
    const { logger, change } = this.#parts;
    change(group, wanted).then(
      () => logger.info(`group ${group}: ${sentenceOf(wanted)}`),
      (error: unknown) => {
        // What was only too early is asked for again.
        const passing = error instanceof PhxError && (error.retryable || error.code === 'CLOSED');
        if (!passing) logger.warn(`group ${group}: it cannot be that ${sentenceOf(wanted)}: ${String(error)}`);
      },
    );
  }

  #changeFor(group: number, joiners: readonly Joiner[]): MembersChange | null {
    const core = this.#parts.groups[group];
    const newest = core?.configurations.at(-1);
    if (core?.role !== 'leader' || newest === undefined) return null;
    for (const joiner of joiners) {
      const learner = memberBorn(joiner.birth, newest);
      // One that does not answer, or has not seen yet that it is a learner, is no help to anybody as a voter.
      if (learner !== undefined && core.appliedAt(learner.id) < newest.from) continue;
      const change = changeFor(newest, joiner);
      if (change !== null) return change;
      if (learner === undefined && freeIdAt(joiner.replica.id, newest) === null) this.#usedUp(group, joiner.replica.id);
    }
    return null;
  }

  #usedUp(group: number, place: number): void {
    const key = `${group} ${place}`;
    if (this.#used_up.has(key)) return;
    this.#used_up.add(key);
    const what = `replica ${place} came back on an empty disk so often that its member ids are used up`;
    this.#parts.logger.warn(`group ${group}: ${what}: it can have no vote any more`);
  }
}

/** The next step towards a vote of a replica that joins, or null if there is none. */
export function changeFor(newest: Configuration, { replica, birth }: Joiner): MembersChange | null {
  const here = newest.members.filter(({ id }) => placeOf(id) === replica.id);
  const joined = memberBorn(birth, newest);
  if (joined?.role === 'voter') return null;
  if (joined !== undefined) {
    const predecessor = here.find(({ role }) => role === 'voter');
    return predecessor === undefined
      ? { type: 'promote', id: joined.id }
      : { type: 'replace', id: predecessor.id, by: joined };
  }
  const id = freeIdAt(replica.id, newest);
  if (id === null) return null;
  const { host, paxos_port: port } = replica;
  const member: Omit<Member, 'role'> = { id, birth, host, port, site: '' };
  // One that was to join before, and lost its disk once more.
  const stale = here.find(({ role }) => role === 'learner');
  return stale === undefined ? { type: 'add_learner', member } : { type: 'replace', id: stale.id, by: member };
}

/** For people. */
function sentenceOf(change: MembersChange): string {
  switch (change.type) {
    case 'add_learner':
      return `replica ${placeOf(change.member.id)} (folder ${change.member.birth}) follows as member ${change.member.id}`;
    case 'replace':
      return `member ${change.by.id} (folder ${change.by.birth}) takes the place of ${change.id} at replica ${placeOf(change.id)}`;
    case 'promote':
      return `member ${change.id} votes`;
    case 'remove':
      return `member ${change.id} is removed`;
  }
}
