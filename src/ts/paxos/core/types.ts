/**
 * The vocabulary of the protocol core: what goes in (inputs), what comes out (effects), what replicas tell each other
 * (messages). Time is a number of milliseconds on the replica's own monotonic clock; it enters with each input.
 */
import type { Ballot } from './ballot.js';
import type { Configuration } from './members.js';
import type { Member } from './roster.js';

/** An accepted value as it travels and as a restart hands it back. */
export interface AcceptedEntry {
  readonly instance: number;
  readonly ballot: Ballot;
  readonly value: Uint8Array;
}

export type Message =
  /** "Would you promise me a ballot?" Changes nothing; keeps a returning replica from deposing a healthy leader. */
  | { readonly type: 'pre_vote'; readonly round: number; readonly chosen_through: number }
  | { readonly type: 'pre_vote_reply'; readonly round: number; readonly granted: boolean; readonly promised: Ballot }
  /** Phase 1a, for all instances at once. */
  | { readonly type: 'prepare'; readonly ballot: Ballot }
  /** Phase 1b. `entries` are those accepted above `chosen_through`; everything up to it is chosen and can be fetched. */
  | {
      readonly type: 'promise';
      readonly ballot: Ballot;
      readonly chosen_through: number;
      readonly entries: readonly AcceptedEntry[];
    }
  /** Phase 2a. `chosen_through` tells what the leader knows to be chosen. */
  | {
      readonly type: 'accept';
      readonly ballot: Ballot;
      readonly instance: number;
      readonly chosen_through: number;
      readonly value: Uint8Array;
    }
  /** Phase 2b: these instances are accepted at `ballot` and durable. */
  | { readonly type: 'accepted'; readonly ballot: Ballot; readonly instances: readonly number[] }
  /** A ballot below the promise was refused. */
  | { readonly type: 'reject'; readonly ballot: Ballot; readonly promised: Ballot }
  /**
   * Asks for a lease of `lease_ms`, tells what is chosen and up to where the leader has applied it. `sent_at_ms` is on
   * the leader's clock, echoed by the reply.
   */
  | {
      readonly type: 'heartbeat';
      readonly ballot: Ballot;
      readonly chosen_through: number;
      readonly applied_through: number;
      readonly sent_at_ms: number;
      readonly lease_ms: number;
    }
  /** Whether the lease is granted, and a link of the own chain at or below what the leader has applied, if possible. */
  | {
      readonly type: 'heartbeat_reply';
      readonly ballot: Ballot;
      readonly sent_at_ms: number;
      readonly granted: boolean;
      readonly instance: number;
      readonly chain: number;
    }
  /** The sender has given up its lease at `ballot`: the grant that belongs to it ends. */
  | { readonly type: 'release'; readonly ballot: Ballot }
  /** The same, and the receiver shall lead: it has applied everything. */
  | { readonly type: 'take_over'; readonly ballot: Ballot }
  /** The receiver is a member no more, and nothing needs its vote. */
  | { readonly type: 'removed' }
  /** A majority's chain has this link, the receiver's another: it has applied something that was not chosen. */
  | { readonly type: 'diverged'; readonly instance: number; readonly chain: number }
  /** Asks for chosen values from `from` on. */
  | { readonly type: 'fetch'; readonly from: number; readonly through: number }
  /** Chosen values, ascending. Empty if the peer cannot serve them. */
  | { readonly type: 'learn'; readonly entries: readonly AcceptedEntry[] };

/** A command that waits to be chosen. `id` is the caller's. */
export interface Proposal {
  readonly id: number;
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  readonly deadline_ms: number;
}

/** Where a replica goes on that got another one's state. */
export interface Snapshot {
  /** The last instance in the state. */
  readonly through: number;
  /** The link of the checksum chain there. */
  readonly chain: number;
  /** The configuration that governs the instance after it, and those that were chosen up to there and govern later. */
  readonly configurations: readonly Configuration[];
  /** Chosen values from here to `through` are in this replica's log. */
  readonly retained_from: number;
}

/** One step from the present members to others; a voter comes or goes, or one takes the place of another. */
export type MembersChange =
  | { readonly type: 'add_learner'; readonly member: Omit<Member, 'role'> }
  | { readonly type: 'promote'; readonly id: number }
  | { readonly type: 'remove'; readonly id: number }
  /** `by`, a learner or a newcomer, takes the place and the role of `id`. */
  | { readonly type: 'replace'; readonly id: number; readonly by: Omit<Member, 'role'> };

export type Input =
  | { readonly type: 'tick' }
  | { readonly type: 'message'; readonly from: number; readonly message: Message }
  | { readonly type: 'propose'; readonly proposal: Proposal }
  /** End of a turn: waiting proposals are cut into instances. */
  | { readonly type: 'flush' }
  /** All appends up to and including `append` are on stable storage. */
  | { readonly type: 'durable'; readonly append: number }
  /** The clock cannot be trusted across the last moments (the machine was suspended): leases held are void. */
  | { readonly type: 'clock_jump' }
  /** Whether this replica may vote. Without a vote it promises, accepts and grants nothing and fetches what is chosen. */
  | { readonly type: 'voting'; readonly allowed: boolean }
  /**
   * From now on this replica, which has no vote, is the member with this id; 0: none. It never said anything under an id that
   * it gets.
   */
  | { readonly type: 'named'; readonly self: number }
  /** The state of another replica is complete and durable here. */
  | { readonly type: 'snapshot_installed'; readonly snapshot: Snapshot }
  /** The log holds nothing below this instance any more. */
  | { readonly type: 'retained'; readonly from: number }
  /** Change the members. Answered as a proposal is: by `members` with this id, or by `refuse`. */
  | {
      readonly type: 'change_members';
      readonly id: number;
      readonly deadline_ms: number;
      readonly change: MembersChange;
    }
  /** Hand the leadership over to this voter, or to the one that is best caught up. Answered by an effect. */
  | { readonly type: 'transfer'; readonly to: number | null };

/** Why a proposal failed. Only a timeout leaves the outcome unknown. */
export type Refusal =
  | 'NOT_MASTER'
  | 'NO_MASTER'
  | 'PROPOSE_TIMEOUT'
  | 'PROPOSE_FAST_REJECT'
  | 'SIZE_TOO_LARGE'
  /** Another change of the members is not settled yet. */
  | 'MEMBERS_PENDING'
  /** There can be no such change. */
  | 'MEMBERS_INVALID'
  /** Who shall get a vote has not caught up. */
  | 'MEMBERS_LAGS';

/** Why a leader does not hand over: it goes on leading, or does not lead. */
export type TransferRefusal =
  | 'NOT_MASTER'
  | 'NO_MASTER'
  | 'TRANSFER_PENDING'
  | 'TRANSFER_SELF'
  | 'TRANSFER_UNKNOWN'
  | 'TRANSFER_LAGS'
  | 'TRANSFER_TIMEOUT';

/** What an append writes. */
export type LogWrite =
  | { readonly type: 'promise'; readonly ballot: Ballot }
  | { readonly type: 'longest_grant'; readonly lease_ms: number }
  | {
      readonly type: 'entry';
      readonly instance: number;
      readonly ballot: Ballot;
      readonly chosen_through: number;
      readonly value: Uint8Array;
    };

export type Effect =
  | { readonly type: 'send'; readonly to: number; readonly message: Message }
  /** Write durably, then answer with the input `durable`. Appends are numbered 1, 2, 3, ... and finish in order. */
  | { readonly type: 'append'; readonly append: number; readonly writes: readonly LogWrite[] }
  /** Apply to the state machine; `proposals` are this replica's own, one for each command, where it proposed the value. */
  | {
      readonly type: 'apply';
      readonly instance: number;
      readonly value: Uint8Array;
      readonly proposals: readonly number[] | null;
    }
  | { readonly type: 'refuse'; readonly proposal: number; readonly reason: Refusal; readonly master: number | null }
  /** A change of the members was applied, `proposal` that of whoever asked for it here. It governs later instances. */
  | { readonly type: 'members'; readonly configuration: Configuration; readonly proposal: number | null }
  /** This replica is a member no more. */
  | { readonly type: 'removed' }
  /** The leadership was handed over: this replica does not lead any more. */
  | { readonly type: 'transferred'; readonly to: number }
  | { readonly type: 'transfer_refused'; readonly reason: TransferRefusal; readonly master: number | null }
  /** A peer needs instances that the log does not hold any more: send it a snapshot. Repeated while it asks. */
  | { readonly type: 'serve_snapshot'; readonly to: number }
  /** Read chosen entries from the log and send them to a peer as `learn`. */
  | { readonly type: 'serve_fetch'; readonly to: number; readonly from: number; readonly through: number };

/** Tuning. All times in milliseconds. */
export interface CoreOptions {
  /** Length of the leader's lease. */
  readonly lease_ms: number;
  /** Both sides of a lease keep this distance to its end, against drift of their clocks. */
  readonly lease_margin_ms: number;
  readonly heartbeat_ms: number;
  /** Random spread of the start of an election. */
  readonly election_jitter_ms: number;
  /** An election that got no majority in this time starts again. */
  readonly election_timeout_ms: number;
  /** An instance that no majority accepted in this time is sent again. */
  readonly retransmit_ms: number;
  /** A gap that lasts this long is fetched. */
  readonly fetch_delay_ms: number;
  readonly fetch_timeout_ms: number;
  /** Fetched values that may wait for the disk, in bytes, while more are asked for. */
  readonly fetch_ahead_bytes_max: number;
  /** Instances in flight at a leader, at most MEMBERS_DELAY. */
  readonly window_max: number;
  /** Bytes of the commands that are batched into one value; a larger command travels alone. */
  readonly batch_bytes_max: number;
  /** Bytes of one command. */
  readonly command_bytes_max: number;
  /** Proposals that wait for a place in the window; more are refused at once. */
  readonly waiting_max: number;
  readonly waiting_bytes_max: number;
  /** Values accepted above the chosen prefix that a replica holds in memory; more are not accepted until the gap closes. */
  readonly accepted_ahead_bytes_max: number;
  /** A replica this many instances behind a voter gets no pre-vote from it. */
  readonly candidate_lag_max: number;
  /** A hand-over of the leadership that is not done in this time is given up. */
  readonly transfer_timeout_ms: number;
}

export const DEFAULT_CORE_OPTIONS: CoreOptions = {
  lease_ms: 300,
  lease_margin_ms: 15,
  heartbeat_ms: 60,
  election_jitter_ms: 60,
  election_timeout_ms: 250,
  retransmit_ms: 250,
  fetch_delay_ms: 40,
  fetch_timeout_ms: 500,
  fetch_ahead_bytes_max: 8 * 1024 * 1024,
  window_max: 16,
  batch_bytes_max: 512 * 1024,
  command_bytes_max: 10 * 1024 * 1024,
  waiting_max: 100_000,
  waiting_bytes_max: 64 * 1024 * 1024,
  accepted_ahead_bytes_max: 64 * 1024 * 1024,
  candidate_lag_max: 4096,
  transfer_timeout_ms: 300,
};
