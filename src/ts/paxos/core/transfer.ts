/**
 * Hands the leadership over on request. The leader stops cutting instances, waits until nothing is in flight and the
 * target has applied everything, gives up its lease, releases the grants of all and asks the target to take over: a few
 * round trips instead of the rest of a lease and an election ("Consensus: Bridging Theory and Practice", section 3.10).
 */
import { assert } from '../../errors.js';
import { boundByLease, endGrant, stepDown } from './acceptor.js';
import type { Ballot } from './ballot.js';
import { startPrepare } from './election.js';
import { heartbeat } from './leader.js';
import type { GroupState, Leader } from './state.js';
import type { TransferRefusal } from './types.js';

/** A voter that grants so many heartbeats in a row not is taken for one that is down. */
const HEARTBEATS_MISSED = 2.5;

/** A hand-over that waits for its moment. */
export interface Transfer {
  readonly to: number;
  readonly until_ms: number;
  /** Somebody waits for the outcome; a leader that is no voter any more hands over unasked. */
  readonly requested: boolean;
  /** The target was asked how far it is since nothing is in flight any more. */
  asked: boolean;
}

/** Begins a hand-over to `to`, or to the voter that has applied most. */
export function onTransfer(state: GroupState, to: number | null): void {
  const { role } = state;
  const { self, options } = state.config;
  if (role.type !== 'leader') {
    refuse(state, state.leader === null ? 'NO_MASTER' : 'NOT_MASTER');
    return;
  }
  const target = to ?? bestSuccessor(state, role);
  if (state.transfer !== null) refuse(state, 'TRANSFER_PENDING');
  else if (target === self) refuse(state, 'TRANSFER_SELF');
  else if (target === null || !state.isVoter(target)) refuse(state, 'TRANSFER_UNKNOWN');
  else if (appliedAt(role, target) + options.candidate_lag_max < state.applied_through) refuse(state, 'TRANSFER_LAGS');
  else {
    const until_ms = state.now_ms + options.transfer_timeout_ms;
    state.transfer = { to: target, until_ms, requested: true, asked: false };
  }
}

/**
 * The other voter that has applied most, as far as this leader knows; one that granted none of the last heartbeats only if all
 * are like that: it may be down.
 */
export function bestSuccessor(state: GroupState, leader: Leader): number | null {
  const since_ms = state.now_ms - HEARTBEATS_MISSED * state.config.options.heartbeat_ms;
  const answers = (peer: number): boolean => (leader.granted.get(peer) ?? Number.NEGATIVE_INFINITY) >= since_ms;
  const isBetter = (peer: number, other: number): boolean => {
    if (answers(peer) !== answers(other)) return answers(peer);
    return appliedAt(leader, peer) > appliedAt(leader, other);
  };
  let best: number | null = null;
  for (const peer of state.members.voters) {
    if (peer !== state.config.self && (best === null || isBetter(peer, best))) best = peer;
  }
  return best;
}

/** After each step: hands over when all is ready, gives up when the time is over. */
export function continueTransfer(state: GroupState): void {
  const { transfer, role } = state;
  if (transfer === null) return;
  if (role.type === 'follower' || role.type === 'pre_candidate') {
    giveUp(state, transfer, 'NOT_MASTER');
  } else if (state.now_ms >= transfer.until_ms) {
    giveUp(state, transfer, 'TRANSFER_TIMEOUT');
  } else if (role.type === 'leader' && state.applied_through === role.next_instance - 1) {
    if (appliedAt(role, transfer.to) >= state.applied_through) {
      handOver(state, role, transfer.to);
    } else if (!transfer.asked) {
      transfer.asked = true;
      heartbeat(state, role);
    }
  }
}

/**
 * Gives up the lease, then tells: from the moment at which somebody may act on a release, this replica is no master. It
 * never leads with that ballot again, so that a late grant is worth nothing.
 */
function handOver(state: GroupState, leader: Leader, to: number): void {
  const { ballot } = leader;
  assert(leader.in_flight.size === 0, 'nothing is in flight when the leadership is handed over');
  state.transfer = null;
  state.leader = to;
  stepDown(state);
  endGrant(state, ballot);
  for (const peer of state.members.others) {
    state.send(peer, peer === to ? { type: 'take_over', ballot } : { type: 'release', ballot });
  }
  state.emit({ type: 'transferred', to });
}

/** The leader of `ballot` gave up its lease and asks this replica to lead. */
export function onTakeOver(state: GroupState, ballot: Ballot): void {
  // One of an earlier term says nothing of the grant that binds now.
  if (ballot !== state.highest_seen || state.role.type !== 'follower') return;
  endGrant(state, ballot);
  if (state.withheld || !state.isVoter(state.config.self) || boundByLease(state, state.config.self)) return;
  state.leader = null;
  startPrepare(state);
}

function appliedAt(leader: Leader, peer: number): number {
  return leader.applied.get(peer) ?? 0;
}

function giveUp(state: GroupState, transfer: Transfer, reason: TransferRefusal): void {
  state.transfer = null;
  if (transfer.requested) refuse(state, reason);
}

function refuse(state: GroupState, reason: TransferRefusal): void {
  state.emit({ type: 'transfer_refused', reason, master: state.leader });
}
