/** How the topic's `store_paxos_*` keys steer the replication; docs/differences.md says what became of each of them. */
import { configError } from '../config/report.js';
import type { Topic } from '../config/schema.js';
import { type CoreOptions, DEFAULT_CORE_OPTIONS } from '../paxos/core/types.js';

/** Largest `items_byte_size_limit`: an Add has to fit well into a segment of the log. */
export const ITEMS_BYTES_MAX = 16 * 1024 * 1024;
/** Bytes of a request besides its items and their framing. */
const ENVELOPE_BYTES_MAX = 64 * 1024;
/** Longest wait for the answer of a replica far away. */
const FAR_TIMEOUT_MAX_MS = 2_000;

/** Largest body of an Add whose items take `items_byte_size_limit` bytes: framing is at most half of tiny items. */
export function addBodyBytesMax(items_byte_size_limit: number): number {
  return Math.ceil(1.5 * items_byte_size_limit) + ENVELOPE_BYTES_MAX;
}

/**
 * Options of the protocol core. A long lease says that the replicas are far from each other, so the waits grow with it.
 * Throws PhxError CONFIG if `items_byte_size_limit` is above `ITEMS_BYTES_MAX`; `file` is the topic's file.
 */
export function coreOptions(topic: Topic, file: string): CoreOptions {
  const { items_byte_size_limit, store_paxos_max_hold_threads, store_paxos_batch_count } = topic;
  if (items_byte_size_limit > ITEMS_BYTES_MAX) {
    const place = { file, key: 'topic.items_byte_size_limit' };
    throw configError(place, `${items_byte_size_limit} bytes are too many`, `give at most ${ITEMS_BYTES_MAX}`);
  }
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
    command_bytes_max,
    // The original lets so many batches wait.
    waiting_max: Math.max(1, store_paxos_max_hold_threads) * Math.max(1, store_paxos_batch_count),
    waiting_bytes_max: Math.max(usual.waiting_bytes_max, command_bytes_max),
  };
}
