/** The state of one Paxos group on one replica, and the few operations that all roles share. */
import { assert } from '../../errors.js';
import { type Ballot, NO_BALLOT } from './ballot.js';
import { Chain, type Checksum } from './chain.js';
import type { Comparison } from './divergence.js';
import { type Configuration, MEMBERS_DELAY, Members } from './members.js';
import type { WaitingChange } from './members_change.js';
import type { Transfer } from './transfer.js';
import type { AcceptedEntry, CoreOptions, Effect, LogWrite, Message, Proposal, Refusal } from './types.js';

/** An accepted value above the applied prefix. */
export interface Entry {
  ballot: Ballot;
  value: Uint8Array;
  /** On this replica's stable storage. */
  durable: boolean;
  /** Known to be chosen whatever ballot it carries. */
  chosen: boolean;
}

/** What to do once an append is durable. Until then nobody may learn of it: the disk is a peer like the others. */
export type Completion =
  | { readonly type: 'accepted'; readonly instance: number; readonly ballot: Ballot; readonly leader: number }
  | { readonly type: 'learned'; readonly instance: number; readonly bytes: number }
  | { readonly type: 'promised'; readonly ballot: Ballot; readonly candidate: number }
  | { readonly type: 'longest_grant'; readonly lease_ms: number; readonly request: LeaseRequest };

/** A leader's wish for a lease. */
export interface LeaseRequest {
  readonly leader: number;
  readonly ballot: Ballot;
  readonly sent_at_ms: number;
  readonly lease_ms: number;
  /** Up to where the leader had applied. */
  readonly applied_through: number;
}

/** What a leader has in flight for one instance. */
export interface InFlight {
  readonly acceptors: Set<number>;
  sent_at_ms: number;
}

/** Own proposals that wait at an instance for their outcome. */
export interface PendingValue {
  readonly origin: Ballot;
  readonly proposals: readonly Proposal[];
  /** Ids of those whose proposer no longer waits. */
  readonly expired: Set<number>;
}

export type Role =
  | { readonly type: 'follower' }
  | { readonly type: 'pre_candidate'; readonly round: number; readonly votes: Set<number>; readonly until_ms: number }
  | {
      readonly type: 'candidate';
      readonly ballot: Ballot;
      readonly promises: Map<number, { readonly chosen_through: number; readonly entries: readonly AcceptedEntry[] }>;
      readonly until_ms: number;
    }
  | Leader;

export interface Leader {
  readonly type: 'leader';
  readonly ballot: Ballot;
  /** Whose promises it has: where they are no majority of the members it proposes nothing. */
  readonly promised_by: ReadonlySet<number>;
  /** Its promises say that everything up to here is chosen: it proposes above only. */
  readonly prepared_above: number;
  next_instance: number;
  /** Values accepted before this leadership, above `prepared_above`: to be proposed again. */
  readonly recovered: Map<number, AcceptedEntry>;
  /** Its own change of the members is in flight. */
  changing: boolean;
  /** Highest instance that may have been chosen before this leadership: reads wait until it is applied. */
  readonly barrier: number;
  readonly in_flight: Map<number, InFlight>;
  /** For each acceptor the time, on this clock, of the newest heartbeat for which it granted the lease. */
  readonly granted: Map<number, number>;
  /** Up to where each peer had applied when it last answered. */
  readonly applied: Map<number, number>;
  /** How the peers' checksum chains compare to the own one. */
  readonly comparisons: Map<number, Comparison>;
  /** Since when it may expect to have a lease: since it leads, or since the clock jumped. */
  since_ms: number;
  /** Grants of heartbeats sent up to then are void: the clock jumped. */
  void_until_ms: number;
  heartbeat_at_ms: number;
  /** When the values between the chosen prefix and the barrier last made progress; a standstill means: prepare again. */
  recovery_progress: { chosen_through: number; at_ms: number };
}

/** `from` granted the lease that the leader asked for at `sent_at_ms`. */
export function noteGrant(leader: Leader, from: number, sent_at_ms: number): void {
  if (sent_at_ms <= leader.void_until_ms) return;
  leader.granted.set(from, Math.max(sent_at_ms, leader.granted.get(from) ?? 0));
}

/** Somebody's word that everything up to `through` is chosen; entries accepted at `ballot` or above are those values. */
export interface Claim {
  readonly from: number;
  readonly ballot: Ballot;
  readonly through: number;
}

/** What a replica finds in its log when it starts. */
export interface Restored {
  readonly promised: Ballot;
  /** Length of the longest lease that it may have granted, 0 if none was. */
  readonly longest_grant_ms: number;
  /** Everything up to here is chosen and already applied again. */
  readonly chosen_through: number;
  /** The link of the checksum chain at `chosen_through`. */
  readonly chain: number;
  /** The configuration that governs the instance after `chosen_through`, and those chosen up to there that govern later. */
  readonly configurations: readonly Configuration[];
  /**
   * Everything up to here is known to be chosen. What is missing from `entries` below it is damaged on this replica's disk:
   * it is fetched and written again before anything above is applied.
   */
  readonly known_through: number;
  /** Values accepted above `chosen_through`; up to `known_through` they are the chosen ones. */
  readonly entries: readonly AcceptedEntry[];
  /** The first instance that the log still holds. */
  readonly retained_from: number;
}

export interface GroupConfig {
  readonly group: number;
  /** Id of this member; the input `named` changes it. */
  readonly self: number;
  readonly options: CoreOptions;
  /** Whether it may vote from the start; the input `voting` changes it. */
  readonly voting: boolean;
  /** Links the values of the checksum chain; the same on all replicas. */
  readonly checksum: Checksum;
  /** Seeds the jitter of elections. */
  readonly seed: number;
}

export class GroupState {
  config: GroupConfig;
  now_ms: number;

  promised: Ballot;
  readonly entries = new Map<number, Entry>();
  entries_bytes = 0;

  chosen_through: number;
  applied_through: number;
  /** Chosen, as this replica once knew; above the chosen prefix some of it is damaged here. */
  readonly known_through: number;
  retained_from: number;
  readonly chain: Chain;
  readonly members: Members;
  /** Told to be a member no more. */
  removed = false;
  claim: Claim = { from: 0, ballot: NO_BALLOT, through: 0 };
  /** When the gap below the claim was first seen at the present chosen prefix, or null. */
  gap_since_ms: number | null = null;
  fetch_sent_at_ms: number | null = null;
  fetch_from = 0;
  /** How often damaged instances were asked for: each time somebody else is. */
  repair_attempts = 0;
  /** The last answer brought something; the next portion is fetched once the disk allows. */
  fetch_goes_on = false;
  /** Bytes of learned values that are not durable yet. */
  learned_bytes = 0;

  /**
   * No other replica gets this one's vote before `until_ms`. `ballot` is that of the leader's newest heartbeat. `to` 0:
   * nobody, for a lease granted before a restart.
   */
  grant: { to: number; ballot: Ballot; until_ms: number };
  longest_grant_ms = 0;

  voting: boolean;

  role: Role = { type: 'follower' };
  /** Who leads, as far as known. */
  leader: number | null = null;
  election_at_ms: number;
  highest_seen: Ballot;
  pre_vote_round = 0;
  /** The hand-over that this leader was asked for. */
  transfer: Transfer | null = null;
  /** The change of the members that it was asked for. */
  change: WaitingChange | null = null;

  readonly waiting: Proposal[] = [];
  waiting_bytes = 0;
  readonly pending = new Map<number, PendingValue>();

  #random: number;
  #appends = 0;
  readonly completions: { readonly append: number; readonly completion: Completion }[] = [];
  #writes: LogWrite[] = [];
  #effects: Effect[] = [];

  constructor(config: GroupConfig, restored: Restored, now_ms: number) {
    assert(config.options.window_max <= MEMBERS_DELAY, 'whose votes count is known for all that is in flight');
    this.config = config;
    this.now_ms = now_ms;
    this.voting = config.voting;
    this.promised = restored.promised;
    this.highest_seen = restored.promised;
    this.chosen_through = restored.chosen_through;
    this.applied_through = restored.chosen_through;
    this.known_through = restored.known_through;
    this.retained_from = restored.retained_from;
    this.members = new Members(config.self, restored.configurations);
    this.chain = new Chain(config.checksum, { instance: restored.chosen_through, chain: restored.chain });
    this.#random = (config.seed ^ (config.group * 0x9e3779b9) ^ (config.self * 0x85ebca6b)) >>> 0;
    for (const entry of restored.entries) {
      assert(entry.instance > restored.chosen_through, 'restored entries lie above the chosen prefix');
      const chosen = entry.instance <= restored.known_through;
      this.putEntry(entry.instance, { ballot: entry.ballot, value: entry.value, durable: true, chosen });
    }
    const wait_ms = restored.longest_grant_ms === 0 ? 0 : restored.longest_grant_ms + config.options.lease_margin_ms;
    this.grant = { to: 0, ballot: NO_BALLOT, until_ms: now_ms + wait_ms };
    this.election_at_ms = this.grant.until_ms + this.jitter();
  }

  /** Whether damaged instances have to be fetched before anything else is applied. */
  get repairing(): boolean {
    return this.chosen_through < this.known_through;
  }

  /** Whether this replica must not vote now: it was told so, or cannot say what it accepted in a damaged record. */
  get withheld(): boolean {
    return !this.voting || this.repairing;
  }

  /** Becomes the member `self`. What it once said as another one binds it still, which does no harm. */
  name(self: number): void {
    assert(!this.voting && this.role.type === 'follower', 'who votes keeps its id');
    this.config = { ...this.config, self };
    this.members.name(self);
    this.removed = false;
  }

  /** Whether `id` has a vote for anything that is not chosen yet. */
  isVoter(id: number): boolean {
    return this.members.isVoter(this.chosen_through + 1, id);
  }

  /** Whether those for which `has` holds are a majority wherever votes may still be needed. */
  isQuorumOfAll(has: (id: number) => boolean): boolean {
    return this.members.isQuorumOfAll(this.chosen_through, has);
  }

  /** A random part of the election jitter, from the group's own generator (mulberry32). */
  jitter(): number {
    this.#random = (this.#random + 0x6d2b79f5) >>> 0;
    let mixed = this.#random;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * this.config.options.election_jitter_ms;
  }

  putEntry(instance: number, entry: Entry): void {
    const old = this.entries.get(instance);
    this.entries_bytes += entry.value.length - (old?.value.length ?? 0);
    this.entries.set(instance, entry);
  }

  dropEntry(instance: number): void {
    const old = this.entries.get(instance);
    if (old === undefined) return;
    this.entries_bytes -= old.value.length;
    this.entries.delete(instance);
  }

  send(to: number, message: Message): void {
    assert(to !== this.config.self, 'a replica sends nothing to itself');
    this.#effects.push({ type: 'send', to, message });
  }

  broadcast(message: Message): void {
    for (const peer of this.members.others) this.send(peer, message);
  }

  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  refuse(proposal: Proposal, reason: Refusal): void {
    this.emit({ type: 'refuse', proposal: proposal.id, reason, master: this.leader });
  }

  /** Writes of one step go into one append; `completion` runs when it is durable. */
  write(write: LogWrite, completion: Completion | null): void {
    this.#writes.push(write);
    if (completion !== null) this.completions.push({ append: this.#appends + 1, completion });
  }

  /** What the step brought about, in the order in which it has to be performed. */
  takeEffects(): Effect[] {
    if (this.#writes.length > 0) {
      this.#appends += 1;
      this.#effects.push({ type: 'append', append: this.#appends, writes: this.#writes });
      this.#writes = [];
    }
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  /** The completions of all appends up to `append`, in order. */
  takeCompletions(append: number): Completion[] {
    assert(append <= this.#appends, 'only what was appended becomes durable');
    let count = 0;
    while (count < this.completions.length && (this.completions[count]?.append ?? 0) <= append) count += 1;
    return this.completions.splice(0, count).map((item) => item.completion);
  }
}
