/** The leader: cuts waiting proposals into instances, has them accepted, keeps its lease. */
import { assert } from '../../errors.js';
import { accept, grantLease, stepDown } from './acceptor.js';
import type { Ballot } from './ballot.js';
import { compareChains } from './divergence.js';
import { startPrepare } from './election.js';
import { advanceChosen, fetchGap } from './learner.js';
import { type GroupState, type Leader, noteGrant, type Role } from './state.js';
import type { AcceptedEntry, Message, Proposal } from './types.js';
import { batchValue, noopValue } from './value.js';

/**
 * Takes over with a majority's promises. Above the highest chosen prefix among them, each instance is proposed again
 * with the value accepted at the highest ballot, or with a no-operation ("Paxos Made Simple", sections 2.2 and 3); the
 * chosen values below it are fetched from the replica that holds them.
 */
export function becomeLeader(state: GroupState, candidate: Role & { type: 'candidate' }): void {
  const { self } = state.config;
  const { ballot } = candidate;
  let source = self;
  let chosen_through = state.chosen_through;
  const best = new Map<number, AcceptedEntry>();
  let last = 0;
  for (const [from, promised] of candidate.promises) {
    if (promised.chosen_through > chosen_through) {
      source = from;
      chosen_through = promised.chosen_through;
    }
    for (const entry of promised.entries) {
      const rival = best.get(entry.instance);
      if (rival === undefined || entry.ballot > rival.ballot) best.set(entry.instance, entry);
      last = Math.max(last, entry.instance);
    }
  }
  last = Math.max(last, chosen_through);
  const leader: Leader = {
    type: 'leader',
    ballot,
    next_instance: last + 1,
    barrier: last,
    in_flight: new Map(),
    granted: new Map(),
    applied: new Map(),
    comparisons: new Map(),
    since_ms: state.now_ms,
    void_until_ms: Number.NEGATIVE_INFINITY,
    heartbeat_at_ms: state.now_ms,
    recovery_progress: { chosen_through: state.chosen_through, at_ms: state.now_ms },
  };
  state.role = leader;
  state.leader = self;
  state.claim = { from: source, ballot, through: chosen_through };
  state.fetch_sent_at_ms = null;
  state.gap_since_ms = Number.NEGATIVE_INFINITY;
  for (let instance = chosen_through + 1; instance <= last; instance += 1) {
    proposeAt(state, leader, instance, best.get(instance)?.value ?? noopValue(ballot));
  }
  tickLeader(state);
}

/** Periodic work of a leader. */
export function tickLeader(state: GroupState): void {
  const { role, now_ms } = state;
  const { options } = state.config;
  if (role.type !== 'leader') return;
  const lease_until_ms = leaseUntil(state) ?? Number.NEGATIVE_INFINITY;
  if (now_ms - Math.max(lease_until_ms, role.since_ms) > options.lease_ms) {
    // No majority follows; whoever asks here should hear it instead of waiting for a timeout.
    stepDown(state);
    return;
  }
  if (now_ms >= role.heartbeat_at_ms || state.transfer !== null) heartbeat(state, role);
  fetchGap(state);
  for (const [instance, flight] of role.in_flight) {
    if (now_ms - flight.sent_at_ms < options.retransmit_ms) continue;
    flight.sent_at_ms = now_ms;
    sendAccept(state, role, instance, flight.acceptors);
  }
  watchRecovery(state, role);
}

/** If the replica that holds chosen values below the barrier went away, another round of promises finds them elsewhere. */
function watchRecovery(state: GroupState, leader: Leader): void {
  const progress = leader.recovery_progress;
  if (
    state.chosen_through > progress.chosen_through ||
    state.chosen_through >= state.claim.through ||
    state.applied_through < state.chosen_through
  ) {
    leader.recovery_progress = { chosen_through: state.chosen_through, at_ms: state.now_ms };
  } else if (state.now_ms - progress.at_ms > 2 * state.config.options.fetch_timeout_ms) {
    startPrepare(state);
  }
}

/** Asks for the lease, tells what is chosen. */
export function heartbeat(state: GroupState, leader: Leader): void {
  const { options, self } = state.config;
  const { now_ms } = state;
  const { ballot } = leader;
  leader.heartbeat_at_ms = now_ms + options.heartbeat_ms;
  const { lease_ms } = options;
  const { chosen_through, applied_through } = state;
  grantLease(state, { leader: self, ballot, sent_at_ms: now_ms, lease_ms, applied_through });
  state.broadcast({ type: 'heartbeat', ballot, chosen_through, applied_through, sent_at_ms: now_ms, lease_ms });
}

export function onHeartbeatReply(
  state: GroupState,
  from: number,
  message: Message & { type: 'heartbeat_reply' },
): void {
  const { role } = state;
  if (role.type !== 'leader' || role.ballot !== message.ballot) return;
  if (message.granted) noteGrant(role, from, message.sent_at_ms);
  role.applied.set(from, Math.max(message.instance, role.applied.get(from) ?? 0));
  compareChains(state, role, from, message);
}

/** The lease is void, and so are the answers to heartbeats that are under way: nobody knows how old they are. */
export function voidLease(state: GroupState, leader: Leader): void {
  leader.granted.clear();
  leader.since_ms = state.now_ms;
  leader.void_until_ms = state.now_ms;
  leader.heartbeat_at_ms = state.now_ms;
}

/**
 * Until when this replica holds the lease: counted from the sending of the oldest heartbeat that a majority has granted,
 * less the margin. Null if it does not lead.
 */
export function leaseUntil(state: GroupState): number | null {
  const { role } = state;
  if (role.type !== 'leader') return null;
  const times = [...role.granted.values()].sort((a, b) => b - a);
  const oldest = times[state.quorum - 1];
  const { options } = state.config;
  return oldest === undefined ? null : oldest + options.lease_ms - options.lease_margin_ms;
}

/** Queues a proposal, or refuses it at once. */
export function onPropose(state: GroupState, proposal: Proposal): void {
  const { options } = state.config;
  if (state.role.type !== 'leader') {
    state.refuse(proposal, state.leader === null ? 'NO_MASTER' : 'NOT_MASTER');
  } else if (proposal.bytes > options.command_bytes_max) {
    state.refuse(proposal, 'SIZE_TOO_LARGE');
  } else if (
    state.waiting.length >= options.waiting_max ||
    state.waiting_bytes + proposal.bytes > options.waiting_bytes_max
  ) {
    state.refuse(proposal, 'PROPOSE_FAST_REJECT');
  } else {
    state.waiting.push(proposal);
    state.waiting_bytes += proposal.bytes;
  }
}

/** Cuts waiting proposals into values while the window has room. What does not fit gathers into larger batches. */
export function flushProposals(state: GroupState): void {
  const { role } = state;
  if (role.type !== 'leader' || state.transfer !== null) return;
  const { window_max, accepted_ahead_bytes_max } = state.config.options;
  while (state.waiting.length > 0 && role.in_flight.size < window_max) {
    if (role.in_flight.size > 0 && state.entries_bytes > accepted_ahead_bytes_max / 2) return;
    const batch = takeBatch(state);
    const instance = role.next_instance;
    role.next_instance += 1;
    const value = batchValue(
      role.ballot,
      batch.map((proposal) => proposal.parts),
    );
    state.pending.set(instance, { origin: role.ballot, proposals: batch, expired: new Set() });
    proposeAt(state, role, instance, value);
  }
}

function takeBatch(state: GroupState): Proposal[] {
  const { batch_bytes_max } = state.config.options;
  let bytes = 0;
  let count = 0;
  for (const proposal of state.waiting) {
    if (count > 0 && bytes + proposal.bytes > batch_bytes_max) break;
    bytes += proposal.bytes;
    count += 1;
  }
  state.waiting_bytes -= bytes;
  return state.waiting.splice(0, count);
}

/** Phase 2a; the leader's own disk works while the others' do. */
function proposeAt(state: GroupState, leader: Leader, instance: number, value: Uint8Array): void {
  assert(!leader.in_flight.has(instance), 'a leader proposes one value for an instance');
  leader.in_flight.set(instance, { acceptors: new Set(), sent_at_ms: state.now_ms });
  const { ballot } = leader;
  const { chosen_through } = state;
  state.broadcast({ type: 'accept', ballot, instance, chosen_through, value });
  if (accept(state, state.config.self, ballot, instance, value)) {
    onAccepted(state, state.config.self, ballot, [instance]);
  }
}

function sendAccept(state: GroupState, leader: Leader, instance: number, except: ReadonlySet<number>): void {
  const entry = state.entries.get(instance);
  assert(entry !== undefined, 'a leader holds what it has in flight');
  const { ballot } = leader;
  const { chosen_through } = state;
  const { value } = entry;
  for (const peer of state.peers) {
    if (!except.has(peer)) state.send(peer, { type: 'accept', ballot, instance, chosen_through, value });
  }
}

/** Phase 2b arrived. With a majority the instance is chosen. */
export function onAccepted(state: GroupState, from: number, ballot: Ballot, instances: readonly number[]): void {
  const { role } = state;
  if (role.type !== 'leader' || role.ballot !== ballot) return;
  for (const instance of instances) {
    const flight = role.in_flight.get(instance);
    if (flight === undefined) continue;
    flight.acceptors.add(from);
    if (flight.acceptors.size < state.quorum) continue;
    role.in_flight.delete(instance);
    const entry = state.entries.get(instance);
    assert(entry !== undefined, 'a leader holds what it has in flight');
    entry.chosen = true;
  }
  advanceChosen(state);
}

/** Gives up on proposals whose time is over. Those in flight may still be chosen. */
export function expireProposals(state: GroupState): void {
  const { now_ms } = state;
  const expired = state.waiting.findIndex((proposal) => proposal.deadline_ms > now_ms);
  const count = expired < 0 ? state.waiting.length : expired;
  for (const proposal of state.waiting.splice(0, count)) {
    state.waiting_bytes -= proposal.bytes;
    state.refuse(proposal, 'PROPOSE_TIMEOUT');
  }
  for (const pending of state.pending.values()) {
    // Deadlines ascend: where the first has time left, all have.
    const [first] = pending.proposals;
    if (first === undefined || first.deadline_ms > now_ms) continue;
    for (const proposal of pending.proposals) {
      if (proposal.deadline_ms <= now_ms && !pending.expired.has(proposal.id)) {
        pending.expired.add(proposal.id);
        state.refuse(proposal, 'PROPOSE_TIMEOUT');
      }
    }
  }
}
