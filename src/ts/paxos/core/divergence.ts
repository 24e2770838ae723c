/**
 * Finds replicas that have applied different values, through a fault of a disk, of memory or of this program: the leader
 * compares the checksum chains of all with its own. Whoever differs from a majority stops (LOG_DIVERGED).
 */
import { PhxError } from '../../errors.js';
import type { Link } from './chain.js';
import type { GroupState, Leader } from './state.js';

/** What a leader knows of a peer's chain. */
export interface Comparison {
  /** Up to here both are the same; below 0 if nothing was heard. */
  same_through: number;
  /** The lowest instance at which they were found to differ, or null. */
  differs_at: number | null;
}

/** The link to tell a leader that has applied `through`: the highest that both can know. */
export function linkFor(state: GroupState, through: number): Link {
  const instance = Math.min(through, state.applied_through);
  const chain = state.chain.at(instance);
  return chain === null ? state.chain.end : { instance, chain };
}

/** Takes in the link that `from` told. Throws LOG_DIVERGED if no majority can share this leader's chain. */
export function compareChains(state: GroupState, leader: Leader, from: number, theirs: Link): void {
  const own = state.chain.at(theirs.instance);
  if (own === null) return;
  const known = leader.comparisons.get(from) ?? { same_through: -1, differs_at: null };
  leader.comparisons.set(from, known);
  if (own === theirs.chain) {
    known.same_through = Math.max(known.same_through, theirs.instance);
    if (known.differs_at !== null && known.differs_at <= theirs.instance) known.differs_at = null;
    return;
  }
  const differs_at = Math.min(known.differs_at ?? theirs.instance, theirs.instance);
  known.differs_at = differs_at;
  const { self } = state.config;
  const voters = state.chosen_through + 1;
  if (
    state.members.isQuorum(
      voters,
      (id) => id === self || (leader.comparisons.get(id)?.same_through ?? -1) >= differs_at,
    )
  ) {
    state.send(from, { type: 'diverged', instance: theirs.instance, chain: own });
  } else if (!state.members.isQuorum(voters, (id) => (leader.comparisons.get(id)?.differs_at ?? null) === null)) {
    throw diverged(state, theirs.instance, 'no majority shares the values applied here');
  }
}

/** The leader says that a majority has applied something else. Throws LOG_DIVERGED if that is so. */
export function onDiverged(state: GroupState, theirs: Link): void {
  const own = state.chain.at(theirs.instance);
  if (own === null || own === theirs.chain) return;
  throw diverged(state, theirs.instance, 'a majority has applied other values than this replica');
}

function diverged(state: GroupState, instance: number, what: string): PhxError {
  return new PhxError('LOG_DIVERGED', `group ${state.config.group}: at or before instance ${instance} ${what}`);
}
