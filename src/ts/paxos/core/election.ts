/** Elections: pre-vote, then phase 1 for all instances at once, then leadership. */
import { acceptedAboveChosen, boundByLease, promise, stepDown } from './acceptor.js';
import { type Ballot, nextBallot } from './ballot.js';
import { becomeLeader, leaseUntil } from './leader.js';
import type { GroupState } from './state.js';
import type { AcceptedEntry } from './types.js';

/** Starts an election when no lease binds this replica and no leader was heard for long enough, or again after one failed. */
export function tickElection(state: GroupState): void {
  const { role, now_ms } = state;
  if (role.type === 'leader') return;
  if (role.type === 'follower') {
    if (now_ms < state.election_at_ms || boundByLease(state, state.config.self)) return;
    state.leader = null;
    if (state.withheld || state.removed) return;
    if (state.isVoter(state.config.self)) startPreVote(state);
    else askWhetherRemoved(state);
  } else if (now_ms >= role.until_ms) {
    stepDown(state);
  }
}

/** Who was left out of the members waits to hear that nothing needs its vote any more; learners wait for a leader. */
function askWhetherRemoved(state: GroupState): void {
  if (!state.members.isExcluded(state.chosen_through, state.config.self)) return;
  state.election_at_ms = state.now_ms + state.config.options.election_timeout_ms + state.jitter();
  state.broadcast({ type: 'pre_vote', round: 0, chosen_through: state.chosen_through });
}

/** Asks whether a majority would promise. */
function startPreVote(state: GroupState): void {
  const { self, options } = state.config;
  state.pre_vote_round += 1;
  const round = state.pre_vote_round;
  const votes = new Set([self]);
  state.role = {
    type: 'pre_candidate',
    round,
    votes,
    until_ms: state.now_ms + options.election_timeout_ms,
  };
  state.broadcast({ type: 'pre_vote', round, chosen_through: state.chosen_through });
  if (state.isQuorumOfAll((id) => votes.has(id))) startPrepare(state);
}

export function onPreVoteReply(
  state: GroupState,
  from: number,
  message: { readonly round: number; readonly granted: boolean; readonly promised: Ballot },
): void {
  if (message.promised > state.highest_seen) state.highest_seen = message.promised;
  const { role } = state;
  if (role.type !== 'pre_candidate' || role.round !== message.round || !message.granted) return;
  role.votes.add(from);
  if (state.isQuorumOfAll((id) => role.votes.has(id)) && !boundByLease(state, state.config.self)) startPrepare(state);
}

/**
 * Takes a ballot above all seen and promises it itself. The others are asked only once that promise is durable: a
 * replica that forgot a ballot it had used might use it twice, for two values.
 */
export function startPrepare(state: GroupState): void {
  const { self, options } = state.config;
  const ballot = nextBallot(state.highest_seen, self);
  state.role = {
    type: 'candidate',
    ballot,
    promises: new Map(),
    until_ms: state.now_ms + options.election_timeout_ms,
  };
  promise(state, self, ballot);
}

/** The own promise is durable: phase 1a. */
export function onOwnPromise(state: GroupState, ballot: Ballot): void {
  const { role } = state;
  if (role.type !== 'candidate' || role.ballot !== ballot) return;
  state.broadcast({ type: 'prepare', ballot });
  collect(state, state.config.self, ballot, state.chosen_through, acceptedAboveChosen(state));
}

/** Takes in a promise; leads when a majority has promised, of all members that govern what is not known to be chosen. */
export function collect(
  state: GroupState,
  from: number,
  ballot: Ballot,
  chosen_through: number,
  entries: readonly AcceptedEntry[],
): void {
  const { role } = state;
  if (role.type !== 'candidate' || role.ballot !== ballot) return;
  role.promises.set(from, { chosen_through, entries });
  let through = state.chosen_through;
  for (const promised of role.promises.values()) through = Math.max(through, promised.chosen_through);
  if (state.members.isQuorumOfAll(through, (id) => role.promises.has(id))) becomeLeader(state, role);
}

/** Somebody promised a higher ballot. */
export function onReject(state: GroupState, ballot: Ballot, promised: Ballot): void {
  if (promised > state.highest_seen) state.highest_seen = promised;
  const { role } = state;
  if (role.type === 'candidate' && role.ballot === ballot) stepDown(state);
  if (role.type === 'leader' && role.ballot === ballot) {
    // With the lease, or new in office: a stray candidate got a promise out of one acceptor, prepare again. But who had
    // the lease and lost it was probably deposed, and must not disturb the next leader.
    const until_ms = leaseUntil(state);
    const lapsed = until_ms !== null && state.now_ms >= until_ms;
    if (lapsed || boundByLease(state, state.config.self)) stepDown(state);
    else startPrepare(state);
  }
}
