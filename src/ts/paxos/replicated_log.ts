/**
 * What a replicated service (store, lock) sees of Paxos. The service hands in commands and implements a state machine;
 * everything between is the business of this folder.
 */

/** A command of a chosen value, in the order in which all replicas apply it. */
export interface Command {
  /** The bytes given to `propose`, concatenated. */
  readonly bytes: Uint8Array;
  /** Where `bytes` starts in the value of its instance: with (group, instance) this finds the bytes in the log again. */
  readonly offset: number;
}

/** Deterministic: equal sequences of calls leave equal states on all replicas. Throwing stops the process. */
export interface StateMachine {
  /**
   * Applies the commands of one chosen instance and returns one result per command, which the proposer's `propose`
   * resolves to on the replica where it was called. Instances of a group come in ascending order, each once per start
   * of the process (a restart applies again what came after the checkpoint). No-operation instances have no commands.
   */
  apply(group: number, instance: number, commands: readonly Command[]): readonly unknown[];

  /**
   * The replicated state of a group as of the last applied instance, as parts that nobody changes afterwards. Equal states
   * give equal bytes, on all replicas: nothing in it depends on a replica's configuration. Small: what the log keeps
   * anyway is not in it, but found again by `reindex`.
   */
  snapshot(group: number): Uint8Array[];

  /**
   * What this replica, by its own configuration, keeps of the group as of the last applied instance: where `reindex` has to
   * begin and what it leaves out. Not compared between replicas; goes with the `snapshot` of the same moment.
   */
  retention(group: number): Uint8Array[];

  /** The lowest instance of the group whose log entry is still needed; Infinity if none of the applied ones is. */
  firstNeeded(group: number): number;

  /**
   * Takes in what `snapshot` and `retention` gave, here or on another replica. Throws LOG_CORRUPT for bytes that it does not
   * know. The instances that were needed follow with `reindex`, then comes `restored`; until then what there was of the group
   * stays as it is. A further `restore` instead begins anew.
   */
  restore(group: number, snapshot: Uint8Array, retention: Uint8Array): void;

  /** Finds again in an instance that the restored snapshot covers what it left to the log. In ascending order, no gaps. */
  reindex(group: number, instance: number, commands: readonly Command[]): void;

  /**
   * All that the snapshot needs was found again: at once, it is the state of the group, and `apply` follows for what comes
   * after it. Throws LOG_CORRUPT if what was found is not what the snapshot counted.
   */
  restored(group: number): void;
}

/** Address-book entry of a replica; `id` is its 1-based position in the configuration. */
export interface Replica {
  readonly id: number;
  readonly host: string;
  readonly paxos_port: number;
}

/** Outcome of a proposal, known once the command was applied here. */
export interface Applied {
  readonly instance: number;
  readonly result: unknown;
}

/** Who leads a group, as far as this replica knows. */
export type Mastership =
  | { readonly role: 'master' } // this replica holds an unexpired lease, checked against the clock at this call
  | { readonly role: 'follower'; readonly master: number } // id of the replica believed to lead
  | { readonly role: 'unknown' };

export interface ReplicatedLog {
  readonly self: number;
  readonly replicas: readonly Replica[];
  readonly groups: number;

  /** Mastership at this very moment. Call it before a read, and again after computing the answer. */
  mastership(group: number): Mastership;

  /**
   * Proposes one command (the parts are concatenated; they must not change afterwards). Resolves once it is durable on
   * a majority and applied here. Rejects with PhxError NOT_MASTER or NO_MASTER (nothing was proposed), SIZE_TOO_LARGE,
   * PROPOSE_FAST_REJECT (nothing was proposed), PROPOSE_TIMEOUT (the outcome is unknown), CLOSED.
   */
  propose(group: number, command: readonly Uint8Array[]): Promise<Applied>;

  /** Value of an applied instance that is still needed, from memory or from the log. Rejects with LOG_CORRUPT. */
  value(group: number, instance: number): Uint8Array | Promise<Uint8Array>;

  /** Highest applied instance of a group, 0 if none. */
  appliedThrough(group: number): number;
}
