/** The leader: cuts waiting proposals into instances, has them accepted, keeps its lease. */
import { assert } from '../../errors.js';
import { accept, grantLease, stepDown } from './acceptor.js';
import type { Ballot } from './ballot.js';
import { compareChains } from './divergence.js';
import { startPrepare } from './election.js';
import { advanceChosen, fetchGap } from './learner.js';
import { MEMBERS_DELAY } from './members.js';
import { type GroupState, type Leader, noteGrant, type Role } from './state.js';
import type { AcceptedEntry, Message, Proposal } from './types.js';
import { batchValue, membersValue, noopValue } from './value.js';

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
    promised_by: new Set(candidate.promises.keys()),
    prepared_above: chosen_through,
    next_instance: chosen_through + 1,
    recovered: best,
    changing: false,
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
  flushProposals(state);
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
 * less the margin. With a change of the members on its way it takes a majority of the old and of the new ones: either may
 * elect the next leader. Null if it does not lead.
 */
export function leaseUntil(state: GroupState): number | null {
  const { role } = state;
  if (role.type !== 'leader') return null;
  const oldest = state.members.reachedByAll(state.chosen_through, (id) => role.granted.get(id));
  const { options } = state.config;
  return oldest === null ? null : oldest + options.lease_ms - options.lease_margin_ms;
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

/**
 * Proposes what can be proposed: first again what was accepted before this leadership, then what waits, cut into values
 * while the window has room. What does not fit gathers into larger batches.
 */
export function flushProposals(state: GroupState): void {
  const { role } = state;
  if (role.type !== 'leader') return;
  while (mayPropose(state, role, role.next_instance)) {
    const instance = role.next_instance;
    const value = instance <= role.barrier ? recoveredValue(role, instance) : nextValue(state, role, instance);
    if (value === null) return;
    role.next_instance += 1;
    role.recovered.delete(instance);
    proposeAt(state, role, instance, value);
  }
}

/** Whether this leader knows whose votes count at an instance, has promises of a majority of them, and belongs there. */
function mayPropose(state: GroupState, leader: Leader, instance: number): boolean {
  if (instance > state.chosen_through + MEMBERS_DELAY) return false;
  const { members, config } = state;
  return members.isVoter(instance, config.self) && members.isQuorum(instance, (id) => leader.promised_by.has(id));
}

function recoveredValue(leader: Leader, instance: number): Uint8Array {
  return leader.recovered.get(instance)?.value ?? noopValue(leader.ballot);
}

/** The next value, or null if nothing waits or there is no room. */
function nextValue(state: GroupState, leader: Leader, instance: number): Uint8Array | null {
  const { window_max, accepted_ahead_bytes_max } = state.config.options;
  const { in_flight, ballot } = leader;
  if (state.transfer !== null || in_flight.size >= window_max) return null;
  if (in_flight.size > 0 && state.entries_bytes > accepted_ahead_bytes_max / 2) return null;
  if (state.change !== null) {
    const { proposal, roster } = state.change;
    state.change = null;
    leader.changing = true;
    state.pending.set(instance, { origin: ballot, proposals: [proposal], expired: new Set() });
    return membersValue(ballot, roster);
  }
  if (state.waiting.length > 0) {
    const batch = takeBatch(state);
    state.pending.set(instance, { origin: ballot, proposals: batch, expired: new Set() });
    return batchValue(
      ballot,
      batch.map((proposal) => proposal.parts),
    );
  }
  return drivesMembersOn(state, instance) ? noopValue(ballot) : null;
}

/**
 * With nothing else to do, no-operations lead up to where new members govern, so that a change is done in an idle group,
 * too; and one more once all below is known to be chosen, so that this is on the disks of the new members.
 */
function drivesMembersOn({ members, chosen_through }: GroupState, instance: number): boolean {
  const { from } = members.newest;
  return instance < from || (instance === from && chosen_through === from - 1);
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
  for (const peer of state.members.others) {
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
    const { acceptors } = flight;
    // Learned from elsewhere, or accepted by a majority of those that count there.
    if (instance > state.chosen_through && !state.members.isQuorum(instance, (id) => acceptors.has(id))) continue;
    role.in_flight.delete(instance);
    if (instance <= state.chosen_through) continue;
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
  if (state.change !== null && state.change.proposal.deadline_ms <= now_ms) {
    state.refuse(state.change.proposal, 'PROPOSE_TIMEOUT');
    state.change = null;
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
