/**
 * Multi-Paxos for one group as a step machine: `step(input) → effects`. No input or output, no clock, no randomness, no
 * promises: whatever drives it, the server or the simulator, sees the same behaviour for the same inputs.
 * docs/internals/paxos.md describes the protocol and why it is safe.
 */
import {
  endGrant,
  grantLease,
  onAccept,
  onAcceptedDurable,
  onHeartbeat,
  onPrepare,
  onPreVote,
  onPromised,
  onVoting,
} from './acceptor.js';
import type { Ballot } from './ballot.js';
import { onDiverged } from './divergence.js';
import { collect, onOwnPromise, onPreVoteReply, onReject, tickElection } from './election.js';
import {
  expireProposals,
  flushProposals,
  leaseUntil,
  onAccepted,
  onHeartbeatReply,
  onPropose,
  tickLeader,
  voidLease,
} from './leader.js';
import { fetchGap, onFetch, onLearn, onLearnedDurable } from './learner.js';
import type { Configuration } from './members.js';
import { heedMembers, isRemoved, isSettled, onChangeMembers, onRemoved } from './members_change.js';
import { onSnapshotInstalled } from './snapshot.js';
import { type Completion, type GroupConfig, GroupState, type Restored } from './state.js';
import { continueTransfer, onTakeOver, onTransfer } from './transfer.js';
import type { Effect, Input, Message } from './types.js';

export class Group {
  readonly #state: GroupState;

  /** `restored` is what the log holds; `now_ms` the monotonic clock. */
  constructor(config: GroupConfig, restored: Restored, now_ms: number) {
    this.#state = new GroupState(config, restored, now_ms);
  }

  /** Takes one input at the time `now_ms` and returns what has to be done, in this order. */
  step(now_ms: number, input: Input): Effect[] {
    const state = this.#state;
    // A clock that seems to run backwards stands still.
    if (now_ms > state.now_ms) state.now_ms = now_ms;
    switch (input.type) {
      case 'tick':
        expireProposals(state);
        tickElection(state);
        if (state.role.type === 'leader') tickLeader(state);
        else fetchGap(state);
        break;
      case 'message':
        onMessage(state, input.from, input.message);
        break;
      case 'propose':
        onPropose(state, input.proposal);
        break;
      case 'flush':
        break;
      case 'durable':
        onDurable(state, input.append);
        break;
      case 'clock_jump':
        if (state.role.type === 'leader') voidLease(state, state.role);
        break;
      case 'voting':
        onVoting(state, input.allowed);
        break;
      case 'named':
        state.name(input.self);
        break;
      case 'snapshot_installed':
        onSnapshotInstalled(state, input.snapshot);
        break;
      case 'retained':
        state.retained_from = Math.max(state.retained_from, input.from);
        break;
      case 'change_members':
        onChangeMembers(state, input.id, input.deadline_ms, input.change);
        break;
      case 'transfer':
        onTransfer(state, input.to);
        break;
    }
    heedMembers(state);
    continueTransfer(state);
    if (input.type !== 'propose') flushProposals(state);
    return state.takeEffects();
  }

  /**
   * Whether this replica may serve as master at `now_ms`: it holds the lease and has applied whatever may have been
   * chosen before it took over.
   */
  isMaster(now_ms: number): boolean {
    const state = this.#state;
    const until_ms = leaseUntil(state);
    return (
      until_ms !== null &&
      now_ms < until_ms &&
      state.role.type === 'leader' &&
      this.applied_through >= state.role.barrier
    );
  }

  /** Id of this member, 0 if it is none. */
  get self(): number {
    return this.#state.config.self;
  }

  /** Id of the replica believed to lead, or null. */
  get leader(): number | null {
    return this.#state.leader;
  }

  get role(): 'follower' | 'candidate' | 'leader' {
    const { type } = this.#state.role;
    return type === 'pre_candidate' ? 'candidate' : type;
  }

  get ballot(): Ballot {
    return this.#state.promised;
  }

  /** The highest ballot that it has heard of, promised or not. */
  get highest_ballot(): Ballot {
    return this.#state.highest_seen;
  }

  get chosen_through(): number {
    return this.#state.chosen_through;
  }

  get applied_through(): number {
    return this.#state.applied_through;
  }

  /** What `Restored` needs to know of the members at `applied_through`. */
  get configurations(): readonly Configuration[] {
    return this.#state.members.list;
  }

  /** Whether damaged instances are being fetched: until then it has no vote. */
  get repairing(): boolean {
    return this.#state.repairing;
  }

  /** Whether this replica was told that it is a member no more. */
  get removed(): boolean {
    return this.#state.removed;
  }

  /** Up to where a peer had applied when it last answered this leader, 0 if unknown. */
  appliedAt(peer: number): number {
    const { role } = this.#state;
    return role.type === 'leader' ? (role.applied.get(peer) ?? 0) : 0;
  }

  /** The link of the checksum chain at `applied_through`. */
  get chain(): number {
    return this.#state.chain.end.chain;
  }

  /** Proposals that wait for a place in the window. */
  get waiting(): number {
    return this.#state.waiting.length;
  }
}

function onMessage(state: GroupState, from: number, message: Message): void {
  if (from === state.config.self) return;
  if (isRemoved(state, from) && !hearsRemoved(state, from, message)) return;
  switch (message.type) {
    case 'pre_vote':
      onPreVote(state, from, message.round, message.chosen_through);
      break;
    case 'pre_vote_reply':
      onPreVoteReply(state, from, message);
      break;
    case 'prepare':
      onPrepare(state, from, message.ballot);
      break;
    case 'promise':
      collect(state, from, message.ballot, message.chosen_through, message.entries);
      break;
    case 'accept':
      onAccept(state, from, message);
      break;
    case 'accepted':
      onAccepted(state, from, message.ballot, message.instances);
      break;
    case 'reject':
      onReject(state, message.ballot, message.promised);
      break;
    case 'heartbeat':
      onHeartbeat(state, from, message);
      break;
    case 'heartbeat_reply':
      onHeartbeatReply(state, from, message);
      break;
    case 'release':
      endGrant(state, message.ballot);
      break;
    case 'take_over':
      onTakeOver(state, message.ballot);
      break;
    case 'removed':
      onRemoved(state);
      break;
    case 'diverged':
      onDiverged(state, message);
      break;
    case 'fetch':
      onFetch(state, from, message.from, message.through);
      break;
    case 'learn':
      onLearn(state, from, message.entries);
      break;
  }
}

/** Messages of a former member: it may fetch, and is told where it stands when it seeks votes. True if one is heeded. */
function hearsRemoved(state: GroupState, from: number, message: Message): boolean {
  const { type } = message;
  const { role } = state;
  const seeks = type === 'pre_vote' || type === 'prepare' || type === 'accept' || type === 'heartbeat';
  if (seeks && role.type === 'leader' && isSettled(state, role)) state.send(from, { type: 'removed' });
  return type === 'fetch';
}

function onDurable(state: GroupState, append: number): void {
  /** Acceptances to tell, by ballot: one message a leader instead of one an instance. */
  const accepted = new Map<Ballot, { readonly leader: number; readonly instances: number[] }>();
  for (const completion of state.takeCompletions(append)) {
    if (completion.type === 'accepted') {
      onAcceptedDurable(state, completion.instance, completion.ballot);
      const told = accepted.get(completion.ballot);
      if (told !== undefined) told.instances.push(completion.instance);
      else accepted.set(completion.ballot, { leader: completion.leader, instances: [completion.instance] });
    } else {
      complete(state, completion);
    }
  }
  for (const [ballot, { leader, instances }] of accepted) {
    if (leader === state.config.self) onAccepted(state, leader, ballot, instances);
    else if (!state.withheld) state.send(leader, { type: 'accepted', ballot, instances });
  }
}

function complete(state: GroupState, completion: Exclude<Completion, { type: 'accepted' }>): void {
  switch (completion.type) {
    case 'learned':
      onLearnedDurable(state, completion.instance, completion.bytes);
      break;
    case 'promised':
      if (completion.candidate === state.config.self) onOwnPromise(state, completion.ballot);
      else onPromised(state, completion.candidate, completion.ballot);
      break;
    case 'longest_grant':
      state.longest_grant_ms = Math.max(state.longest_grant_ms, completion.lease_ms);
      grantLease(state, completion.request);
      break;
  }
}
