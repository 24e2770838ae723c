/** What a node is made of, and its limits. */
import type { LogEngine } from '../wal/engine.js';
import type { CheckpointOptions } from './checkpointer.js';
import type { CoreOptions } from './core/types.js';
import type { Identity } from './identity.js';
import { PORTION_BYTES_MAX } from './log_writer.js';
import type { Replica, StateMachine } from './replicated_log.js';
import type { Runtime } from './runtime.js';
import { PART_BYTES } from './snapshot_messages.js';
import type { TransportLogger } from './transport.js';

/** Sizes in bytes. */
export interface NodeLimits {
  /** Applied values kept in memory, all groups together. */
  readonly value_cache_bytes_max: number;
  /** Values in one answer to a peer that catches up. */
  readonly learn_bytes_max: number;
  /** Bytes of a checkpoint in one message, at most PART_BYTES. */
  readonly part_bytes_max: number;
  /** Bodies of the records that are given to the log at once; with their heads they must fit into a segment. */
  readonly portion_bytes_max: number;
}

export const DEFAULT_LIMITS: NodeLimits = {
  value_cache_bytes_max: 32 * 1024 * 1024,
  learn_bytes_max: 1024 * 1024,
  part_bytes_max: PART_BYTES,
  portion_bytes_max: PORTION_BYTES_MAX,
};

export interface PaxosNodeOptions {
  readonly identity: Identity;
  readonly replicas: readonly Replica[];
  readonly listen_host: string;
  readonly log: LogEngine;
  readonly stateMachine: StateMachine;
  readonly core: CoreOptions;
  readonly checkpoints?: CheckpointOptions;
  /** A proposal not chosen in this time rejects with PROPOSE_TIMEOUT. */
  readonly propose_timeout_ms: number;
  readonly logger: TransportLogger;
  readonly limits?: NodeLimits;
  readonly runtime?: Runtime;
  /** Form a new cluster with a majority of the replicas (docs/internals/forming.md says what that gives up). */
  readonly form_with_majority?: boolean;
  /**
   * Called while groups stay without a master: probably fewer than a majority of the replicas are up. `obstacle` is what
   * keeps this replica from voting, empty if nothing does.
   */
  readonly onNoMaster?: (groups: readonly number[], connectedPeers: number, obstacle: string) => void;
  /** The log or the state machine failed: nothing can be promised any more, the process has to stop. */
  readonly onFailure: (error: Error) => void;
}
