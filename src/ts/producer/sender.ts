import type { TopicConfig } from '../config/topic.js';
import type { Addr, QItem } from '../protocol/messages.js';
import { RetCode } from '../protocol/ret_code.js';
import { Backoff, type BackoffLimits, pause } from './backoff.js';
import { EnqueueError } from './enqueue_error.js';
import { splitItems } from './item_groups.js';
import type { QueueSelector, StoreSelector } from './selector.js';

/** Waits between two tries while a queue has no master. */
export const NO_MASTER_BACKOFF: BackoffLimits = { first_ms: 20, longest_ms: 500 };

/** Where items were put. */
export interface Placement {
  readonly store_id: number;
  readonly queue_id: number;
  /** The cursor of the first of the items; 2^64-1 when the queue's configuration says to drop everything. */
  readonly cursor: bigint;
}

/** What became of one item: where it was put, or why not. */
export type SendResult =
  | { readonly item: QItem; readonly placement: Placement; readonly error?: undefined }
  | { readonly item: QItem; readonly placement?: undefined; readonly error: EnqueueError };

/** Limits of one send. */
export interface SendOptions {
  readonly signal?: AbortSignal;
  /** When to give up, on the clock of `performance.now()`. */
  readonly deadline_ms: number;
  /** How long a send that certainly was not taken is tried again beyond the configured retries, in milliseconds. */
  readonly failover_wait_ms: number;
}

/** Where a request goes. */
export interface Route {
  readonly topic_id: number;
  readonly store_id: number;
  readonly queue_id: number;
  readonly addrs: readonly Addr[];
}
