/** The acceptor: promises, acceptances and lease grants. Nothing it says leaves before the disk holds it. */
import { assert } from '../../errors.js';
import { type Ballot, replicaOf } from './ballot.js';
import { linkFor } from './divergence.js';
import { advanceChosen, applyChosen, heedClaim } from './learner.js';
import { type GroupState, type LeaseRequest, noteGrant } from './state.js';
import type { AcceptedEntry, Message } from './types.js';

/** True while a lease that this replica granted keeps it from voting for `candidate`. */
export function boundByLease(state: GroupState, candidate: number): boolean {
  return state.now_ms <= state.grant.until_ms && state.grant.to !== candidate;
}

/** Answers "would you promise?" without changing anything. */
export function onPreVote(state: GroupState, candidate: number, round: number, chosen_through: number): void {
  const lagging = chosen_through + state.config.options.candidate_lag_max < state.chosen_through;
  const granted = !state.withheld && !lagging && !boundByLease(state, candidate);
  state.send(candidate, { type: 'pre_vote_reply', round, granted, promised: state.promised });
}

/** Phase 1b. A prepare that meets a live lease is left unanswered: the candidate tries again. */
export function onPrepare(state: GroupState, candidate: number, ballot: Ballot): void {
  assert(replicaOf(ballot) === candidate, 'a candidate prepares its own ballot');
  if (state.withheld) return;
  if (ballot < state.promised) {
    state.send(candidate, { type: 'reject', ballot, promised: state.promised });
    return;
  }
  if (boundByLease(state, candidate)) return;
  promise(state, candidate, ballot);
}

/** Records a promise; `onPromised` tells the candidate when it is durable. */
export function promise(state: GroupState, candidate: number, ballot: Ballot): void {
  assert(ballot >= state.promised, 'promises never go back');
  if (ballot > state.promised) state.leader = null;
  state.promised = ballot;
  submit(state, ballot);
  state.write({ type: 'promise', ballot }, { type: 'promised', ballot, candidate });
}

/** The values accepted above the chosen prefix, for phase 1b. */
export function acceptedAboveChosen(state: GroupState): AcceptedEntry[] {
  const entries: AcceptedEntry[] = [];
  for (const [instance, { ballot, value }] of state.entries) {
    if (instance > state.chosen_through) entries.push({ instance, ballot, value });
  }
  return entries;
}

/** The promise is durable: tell the candidate, unless a higher one was given meanwhile. */
export function onPromised(state: GroupState, candidate: number, ballot: Ballot): void {
  if (state.promised !== ballot || state.withheld) return;
  const entries = acceptedAboveChosen(state);
  state.send(candidate, { type: 'promise', ballot, chosen_through: state.chosen_through, entries });
}

/** Phase 2b. */
export function onAccept(state: GroupState, leader: number, message: Message & { type: 'accept' }): void {
  const { ballot, instance, value, chosen_through } = message;
  if (state.withheld) {
    follow(state, leader, ballot, chosen_through);
    return;
  }
  if (ballot < state.promised) {
    state.send(leader, { type: 'reject', ballot, promised: state.promised });
    return;
  }
  submit(state, ballot);
  state.leader = leader;
  if (ballot > state.promised) {
    state.promised = ballot;
    state.write({ type: 'promise', ballot }, null);
  }
  // First what is chosen, so that the record of this value says so, too.
  heedClaim(state, leader, ballot, chosen_through);
  if (accept(state, leader, ballot, instance, value)) {
    state.send(leader, { type: 'accepted', ballot, instances: [instance] });
  }
  // The claim may cover the value: it may have come late.
  advanceChosen(state);
}

/** Learns from a leader without a vote. */
function follow(state: GroupState, leader: number, ballot: Ballot, chosen_through: number): void {
  if (ballot >= state.highest_seen) state.leader = leader;
  state.election_at_ms = state.now_ms + state.config.options.lease_ms + state.jitter();
  submit(state, ballot);
  heedClaim(state, leader, ballot, chosen_through);
}

/**
 * Accepts a value; true if the answer need not wait for the disk: it is held durably already, or the instance is known to
 * be chosen. In that case the value stays what it is: a leader that proposes another one is outdated, and the majority
 * that chose will not accept from it.
 */
export function accept(
  state: GroupState,
  leader: number,
  ballot: Ballot,
  instance: number,
  value: Uint8Array,
): boolean {
  assert(ballot >= state.promised, 'no ballot below the promise is accepted');
  if (instance <= state.applied_through) return true;
  const held = state.entries.get(instance);
  if (held?.chosen === true) return true;
  if (held !== undefined && held.ballot === ballot) return held.durable;
  // The next instance is always taken, or nothing would ever make room; a leader bounds itself by its window.
  const needed = instance === state.chosen_through + 1 || leader === state.config.self;
  if (!needed && state.entries_bytes + value.length > state.config.options.accepted_ahead_bytes_max) return false;
  state.putEntry(instance, { ballot, value, durable: false, chosen: false });
  state.write(
    { type: 'entry', instance, ballot, chosen_through: state.chosen_through, value },
    { type: 'accepted', instance, ballot, leader },
  );
  return false;
}

/** An acceptance reached the disk. */
export function onAcceptedDurable(state: GroupState, instance: number, ballot: Ballot): void {
  const entry = state.entries.get(instance);
  if (entry !== undefined && entry.ballot === ballot) entry.durable = true;
  applyChosen(state);
}

/** A leader asks for its lease and tells what is chosen. */
export function onHeartbeat(state: GroupState, leader: number, message: Message & { type: 'heartbeat' }): void {
  const { ballot, sent_at_ms, lease_ms, chosen_through, applied_through } = message;
  if (state.withheld) {
    follow(state, leader, ballot, chosen_through);
    answerHeartbeat(state, { leader, ballot, sent_at_ms, lease_ms, applied_through }, false);
    return;
  }
  if (ballot < state.promised) {
    state.send(leader, { type: 'reject', ballot, promised: state.promised });
    return;
  }
  if (boundByLease(state, leader)) return;
  // A heartbeat moves the role alone; promises are given to prepare and accept, which the disk records.
  submit(state, ballot);
  state.leader = leader;
  // First what is chosen, so that the answer tells of it.
  heedClaim(state, leader, ballot, chosen_through);
  grantLease(state, { leader, ballot, sent_at_ms, lease_ms, applied_through });
}

/**
 * Grants a lease, or first records its length where it is longer than any before: after a restart a replica does not
 * remember whom it granted a lease, but it knows how long to wait.
 */
export function grantLease(state: GroupState, request: LeaseRequest): void {
  if (request.lease_ms > state.longest_grant_ms) {
    const { lease_ms } = request;
    state.write({ type: 'longest_grant', lease_ms }, { type: 'longest_grant', lease_ms, request });
    return;
  }
  if (request.ballot < state.promised || boundByLease(state, request.leader) || state.withheld) return;
  const until_ms = state.now_ms + request.lease_ms + state.config.options.lease_margin_ms;
  const { ballot } = request;
  state.grant = { to: request.leader, ballot, until_ms: Math.max(until_ms, state.grant.until_ms) };
  state.election_at_ms = state.grant.until_ms + state.jitter();
  const { leader, sent_at_ms } = request;
  if (leader !== state.config.self) {
    answerHeartbeat(state, request, true);
  } else if (state.role.type === 'leader' && state.role.ballot === ballot) {
    noteGrant(state.role, leader, sent_at_ms);
  }
}

function answerHeartbeat(state: GroupState, request: LeaseRequest, granted: boolean): void {
  const { leader, ballot, sent_at_ms, applied_through } = request;
  const { instance, chain } = linkFor(state, applied_through);
  state.send(leader, { type: 'heartbeat_reply', ballot, sent_at_ms, granted, instance, chain });
}

/** From now on this replica votes, or does not. */
export function onVoting(state: GroupState, allowed: boolean): void {
  state.voting = allowed;
  if (!allowed && state.role.type !== 'follower') stepDown(state);
}

/** The leader of `ballot` has given up its lease: the grant that belongs to it binds no longer. */
export function endGrant(state: GroupState, ballot: Ballot): void {
  if (state.grant.ballot !== ballot) return;
  state.grant.until_ms = Number.NEGATIVE_INFINITY;
  // Its successor gets its chance before anybody else stands.
  state.election_at_ms = state.now_ms + state.config.options.election_timeout_ms + state.jitter();
}

/** Whoever led or stood for election under a lower ballot becomes a follower. */
function submit(state: GroupState, ballot: Ballot): void {
  if (ballot > state.highest_seen) state.highest_seen = ballot;
  const { role } = state;
  if (
    role.type === 'pre_candidate' ||
    ((role.type === 'candidate' || role.type === 'leader') && role.ballot < ballot)
  ) {
    stepDown(state);
  }
}

/** Gives up leadership or candidacy. Proposals that were not cut into an instance yet are refused. */
export function stepDown(state: GroupState): void {
  if (state.role.type === 'leader' && state.leader === state.config.self) state.leader = null;
  state.role = { type: 'follower' };
  state.election_at_ms = Math.max(state.grant.until_ms, state.now_ms) + state.jitter();
  for (const proposal of state.waiting) state.refuse(proposal, 'NOT_MASTER');
  if (state.change !== null) state.refuse(state.change.proposal, 'NOT_MASTER');
  state.change = null;
  state.waiting.length = 0;
  state.waiting_bytes = 0;
}
