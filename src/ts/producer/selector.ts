import type { StoreConfig, TopicFiles } from '../config/global_config.js';
import { RetCode } from '../protocol/ret_code.js';
import { queueRank, StoreRing, storeKey } from '../protocol/ring.js';
import { EnqueueError } from './enqueue_error.js';
import type { Route } from './store_client.js';

/** Largest random key; 31 bits, as those of other clients. */
const RANDOM_KEYS = 2 ** 31;

/** What decides where an item goes. */
export interface Selectable {
  readonly pub_id: number;
  /** How often the item was enqueued again. */
  readonly count: number;
  /** The ordering key; 0n means none. */
  readonly uin: bigint;
}

/** Where items go, and whether they are thrown away there. */
export interface Choice {
  readonly route: Route;
  readonly store: StoreConfig;
  readonly drop_all: boolean;
}

/**
 * Chooses queue and store of the items of one topic, by the same rules as all clients of PhxQueue: items of one pub,
 * count and key get the same queue of the same store as long as the configuration stays as it is.
 */
export class Selector {
  readonly #files: TopicFiles;
  readonly #random: () => number;
  /** A ring has the stores that serve a pub, so each pub has its own. */
  readonly #rings = new Map<number, StoreRing<StoreConfig>>();

  constructor(files: TopicFiles, random: () => number = Math.random) {
    this.#files = files;
    this.#random = random;
  }

  /** A key for items that have none. */
  randomKey(): bigint {
    return BigInt(Math.floor(this.#random() * RANDOM_KEYS));
  }

  /**
   * Where an item goes. `key` takes the place of a uin that is 0 or not to be looked at. From attempt 1 on it is the
   * next queue and a store that is not in `tried`, if the configuration wants retries to switch. Throws EnqueueError if
   * the configuration has no place for the item.
   */
  choose(item: Selectable, key: bigint, attempt: number, tried: ReadonlySet<StoreConfig>): Choice {
    const { topic, info } = this.#files;
    const { producer_retry_switch_store, producer_retry_switch_queue } = topic.topic;
    const queue_info = topic.queueInfoByCount(item.pub_id, item.count);
    if (queue_info === undefined) throw this.#noQueue(item);
    const u = item.uin === 0n || queue_info.handle_by_random_uin === 1 ? key : item.uin;
    const rank = queueRank(info.topic_id, u, producer_retry_switch_queue === 1 ? attempt : 0);
    const queue_id = topic.queueByRank(queue_info.queue_info_id, rank);
    if (queue_id === undefined) {
      const message = `queue_info ${queue_info.queue_info_id} of topic ${info.topic_id} has no queues`;
      throw new EnqueueError(RetCode.NQUEUE_INVALID, message);
    }
    const switching = producer_retry_switch_store === 1;
    const ring = this.#ringOf(item.pub_id);
    const store = ring.select(storeKey(info.topic_id, u, switching ? attempt : null), switching ? tried : new Set());
    if (store === undefined) {
      throw new EnqueueError(RetCode.RANGE_STORE, `no store of topic ${info.topic_id} serves pub ${item.pub_id}`);
    }
    const { store_id, addrs } = store;
    const route = { topic_id: info.topic_id, store_id, queue_id, addrs };
    return { route, store, drop_all: queue_info.drop_all === 1 };
  }

  #ringOf(pub_id: number): StoreRing<StoreConfig> {
    let ring = this.#rings.get(pub_id);
    if (ring === undefined) {
      const serves = ({ pub_ids }: StoreConfig): boolean => pub_ids.length === 0 || pub_ids.includes(pub_id);
      ring = new StoreRing(this.#files.stores.filter(serves));
      this.#rings.set(pub_id, ring);
    }
    return ring;
  }

  #noQueue({ pub_id, count }: Selectable): EnqueueError {
    const { topic, info } = this.#files;
    if (topic.pub(pub_id) === undefined) {
      return new EnqueueError(RetCode.RANGE_PUB, `topic ${info.topic_id} has no pub ${pub_id}`);
    }
    const message = `the retry chain of pub ${pub_id} of topic ${info.topic_id} ends before retry ${count}`;
    return new EnqueueError(RetCode.RANGE_CNT, message);
  }
}
