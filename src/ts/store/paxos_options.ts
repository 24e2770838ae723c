/** How the topic's `store_paxos_*` keys steer the replication; docs/differences.md says what became of each of them. */
import type { Topic } from '../config/schema.js';
import { type CheckpointOptions, DEFAULT_CHECKPOINT_OPTIONS } from '../paxos/checkpointer.js';
import { type CoreOptions, DEFAULT_CORE_OPTIONS } from '../paxos/core/types.js';

/** Bytes of a request besides its items and their framing. */
const ENVELOPE_BYTES_MAX = 64 * 1024;
/** Bytes of log that a store keeps for replicas that lag behind, all of its Paxos groups together. */
const HELD_BYTES_MAX = 512 * 1024 * 1024;
/** Longest wait for the answer of a replica far away. */
const FAR_TIMEOUT_MAX_MS = 2_000;

/** Largest body of an Add whose items take `items_byte_size_limit` bytes: framing is at most half of tiny items. */
export function addBodyBytesMax(items_byte_size_limit: number): number {
  return Math.ceil(1.5 * items_byte_size_limit) + ENVELOPE_BYTES_MAX;
}

/** Options of the protocol core. A long lease says that the replicas are far apart, so the waits grow with it. */
export function coreOptions(topic: Topic): CoreOptions {
  const { items_byte_size_limit, store_paxos_max_hold_threads, store_paxos_batch_count } = topic;
  const usual = DEFAULT_CORE_OPTIONS;
  const lease_ms = topic.store_paxos_master_lease;
  const scaled = (usual_ms: number, max_ms: number): number =>
    Math.max(usual_ms, Math.min(max_ms, Math.round((usual_ms * lease_ms) / usual.lease_ms)));
  const heartbeat_ms = Math.round((usual.heartbeat_ms * lease_ms) / usual.lease_ms);
  const command_bytes_max = addBodyBytesMax(items_byte_size_limit) + ENVELOPE_BYTES_MAX;
  return {
    ...usual,
    lease_ms,
    lease_margin_ms: scaled(usual.lease_margin_ms, lease_ms / 20),
    heartbeat_ms,
    election_jitter_ms: scaled(usual.election_jitter_ms, FAR_TIMEOUT_MAX_MS / 2),
    election_timeout_ms: scaled(usual.election_timeout_ms, FAR_TIMEOUT_MAX_MS),
    retransmit_ms: scaled(usual.retransmit_ms, FAR_TIMEOUT_MAX_MS),
    fetch_timeout_ms: scaled(usual.fetch_timeout_ms, FAR_TIMEOUT_MAX_MS),
    transfer_timeout_ms: lease_ms,
    command_bytes_max,
    // The original lets so many batches wait.
    waiting_max: Math.max(1, store_paxos_max_hold_threads) * Math.max(1, store_paxos_batch_count),
    waiting_bytes_max: Math.max(usual.waiting_bytes_max, command_bytes_max),
  };
}

/**
 * When the Paxos groups get checkpoints, and what of their logs stays behind them. A replica that was away for longer is
 * brought a checkpoint instead.
 */
export function checkpointOptions(topic: Topic, groups: number): CheckpointOptions {
  return {
    ...DEFAULT_CHECKPOINT_OPTIONS,
    held_instances_max: Math.max(0, topic.store_paxos_hold_log_count),
    held_bytes_max: HELD_BYTES_MAX / groups,
  };
}
