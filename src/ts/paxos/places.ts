/**
 * Member ids and the places that they belong to. A place is a number in the configuration and stays; the member at it changes
 * when its replica lost what it had said. Each group gives ids of its own, each once, in ascending order; that of a founder is
 * its place. All ids of a place differ by multiples of PLACES_MAX, so whoever meets an id knows its place.
 */
import { PhxError } from '../errors.js';
import { REPLICA_ID_MAX } from './core/ballot.js';
import type { Configuration } from './core/members.js';
import type { Member } from './core/roster.js';
import type { Birth } from './report.js';

/** Most replicas of a store. A constant of the format: ids mean other places with another one. */
export const PLACES_MAX = 16;

/** The id of a replica that is no member. */
export const NO_ID = 0;

/** Births of founders are in the node records of all; the groups name founders by their ids alone. */
export const UNNAMED_BIRTH: Birth = '0'.repeat(16);

/** A group of which the members are known: those that govern the next instance to apply, and later ones. */
export interface Named {
  readonly configurations: readonly Configuration[];
}

/** The place that an id belongs to. */
export function placeOf(id: number): number {
  return ((id - 1) % PLACES_MAX) + 1;
}

/** The lowest id of a place that was not given before; null if all were. */
export function freeIdAt(place: number, { next_id }: Configuration): number | null {
  const lives = Math.ceil(Math.max(0, next_id - place) / PLACES_MAX);
  const id = place + lives * PLACES_MAX;
  return id <= REPLICA_ID_MAX ? id : null;
}

/** The member that a configuration names by its birth. */
export function memberBorn(birth: Birth, { members }: Configuration): Member | undefined {
  return members.find((member) => member.birth === birth);
}

/** The ids under which the newest members of each group name a birth as a voter, null where they do not. */
export function voterIds(birth: Birth, groups: readonly Named[]): (number | null)[] {
  return groups.map(({ configurations }) => {
    const newest = configurations.at(-1);
    const member = newest === undefined ? undefined : memberBorn(birth, newest);
    return member?.role === 'voter' ? member.id : null;
  });
}

/** What is said of a new member while others voted for what it has still to apply; empty once it did. */
export function unsettledSentence(groups: readonly (Named & { readonly self: number })[]): string {
  const unsettled = groups.filter(({ self, configurations }) => {
    const present = configurations[0]?.members.find(({ id }) => id === self);
    return present?.role !== 'voter';
  });
  if (unsettled.length === 0) return '';
  return `it votes; in ${unsettled.length} groups it has still to apply what was chosen before it was a member`;
}

/** Throws CONFIG for more replicas than there are places. */
export function checkPlaces(replicas: number): void {
  if (replicas <= PLACES_MAX) return;
  throw new PhxError('CONFIG', `a store has at most ${PLACES_MAX} replicas, not ${replicas}`);
}
