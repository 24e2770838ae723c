/** What a store knows from the configuration at one moment. */
import type { Replica } from '../paxos/replicated_log.js';
import type { ItemFields } from '../protocol/add_request.js';

/** Address of a store as the wire and the configuration name it. */
export interface StoreAddress {
  readonly ip: string;
  readonly port: number;
  readonly paxos_port: number;
}

/** A snapshot of the configuration, as far as a store is concerned. A reload makes a new one. */
export interface StoreView {
  readonly topic_id: number;
  /** Null where the store's own address is not in the configuration (any more). */
  readonly store_id: number | null;
  readonly items_byte_size_limit: number;
  /** Items of one Add: many tiny ones cost every replica time, whatever their bytes. */
  readonly items_max: number;
  readonly get_loop_max_time_ms: number;
  /** Whether some pub of the topic uses the queue. */
  isValidQueue(queue_id: number): boolean;
  /** Consumer groups that must acknowledge the queue's items before the store may forget them, ascending. */
  groupsOf(queue_id: number): readonly number[];
  /** The configured address of a replica, null if the configuration has none with its host and Paxos port. */
  addressOf(replica: Replica): StoreAddress | null;
  /** Whether a skip rule takes the item away from the consumer group. */
  skips(item: ItemFields, queue_id: number, consumer_group: number): boolean;
}
