/** The vocabulary of `formation.ts`: what a replica keeps of itself, what goes in, what comes out. */
import type { KnownPeer } from './peer_memory.js';
import type { Birth, FounderList, Report } from './report.js';

/** How this birth came to its folder. */
export type Origin =
  | 'empty' // the folder was empty
  | 'votes' // the folder was used by software that kept no births: its replica votes
  | 'old' // the folder was older than what the others remember of it
  | 'replaced' // the folder was away, and another one took its place
  | 'damage'; // what the folder had said can no longer be read; its replica joins, and never founds a cluster

/** What a replica keeps of itself. */
export interface OwnRecord {
  readonly birth: Birth;
  readonly start: number;
  readonly origin: Origin;
  readonly agreed: FounderList | null;
  readonly formed: FounderList | null;
  /** Lowest id under which it votes in a group, of a founder its place; null: no vote. */
  readonly member: number | null;
  /** Its ids, by group; null where they are its place in all groups, or it has none. */
  readonly ids: readonly number[] | null;
}

export interface FormationConfig {
  /** 1-based place of this replica in the configuration. */
  readonly place: number;
  readonly replicas: number;
  /** 64 random bits of this start of the process. */
  readonly run: string;
  /** How people call the replica at a place. */
  readonly nameOf: (place: number) => string;
}

/** As whom this replica introduced itself. */
export type Told = Pick<Report, 'birth' | 'member'>;

export type FormationInput =
  /** `own` as found on the disk, with the start already raised, or new; becomes durable before anything is said. */
  | { readonly type: 'start' }
  /** A peer introduces itself and waits for the `answer` to its `caller` number. */
  | { readonly type: 'hello'; readonly caller: number; readonly place: number; readonly report: Report }
  /** A peer let this replica in, which had introduced itself as `told`, and said who it is. */
  | { readonly type: 'welcome'; readonly place: number; readonly told: Told; readonly report: Report }
  /** A peer that is connected says what it is now. */
  | { readonly type: 'status'; readonly place: number; readonly report: Report }
  /** The connection to a peer is lost. */
  | { readonly type: 'gone'; readonly place: number }
  /** How much of what this replica said to the groups is durable. */
  | { readonly type: 'position'; readonly position: number }
  /** What was said under the birth `told` is forgotten: take another birth and give up the vote. */
  | { readonly type: 'rebirth'; readonly told: Birth; readonly birth: Birth; readonly origin: Origin }
  /** The ids under which the newest members of each group name this birth as a voter, null where they do not. */
  | { readonly type: 'named'; readonly ids: readonly (number | null)[] }
  /** An operator asks to form with those that are there. */
  | { readonly type: 'form_with_majority' }
  /** All records up to this one are on stable storage. */
  | { readonly type: 'durable'; readonly record: number };

export type Verdict =
  | { readonly type: 'welcome' }
  /** The caller's folder is an older copy of itself. */
  | { readonly type: 'old'; readonly reason: string }
  | { readonly type: 'refuse'; readonly reason: string };

export type FormationOutput =
  /** Write both durably, in one append, and say `durable`. Records are numbered 1, 2, 3, … and finish in order. */
  | { readonly type: 'write'; readonly record: number; readonly own: OwnRecord; readonly peers: readonly KnownPeer[] }
  | { readonly type: 'answer'; readonly caller: number; readonly verdict: Verdict }
  /** The peer whose words were just given in is not to be talked to. */
  | { readonly type: 'hang_up'; readonly place: number; readonly reason: string }
  /** This replica may introduce itself: for the first time, or as another birth or a new member, on new connections. */
  | { readonly type: 'introduce' }
  /** What this replica says of itself has changed. */
  | { readonly type: 'tell' }
  | { readonly type: 'formed'; readonly founders: FounderList; readonly member: number }
  | { readonly type: 'joining'; readonly origin: Origin }
  /** It is a member of all groups, in place of another birth. */
  | { readonly type: 'enrolled' }
  | { readonly type: 'may_vote' }
  /** At once: no vote, no answer, no leadership any more. */
  | { readonly type: 'halt' };
