import { type GlobalConfig, loadGlobalConfig, type TopicFiles } from '../config/global_config.js';
import { RetCode } from '../protocol/ret_code.js';
import { RpcClient } from '../rpc/client.js';
import { MasterClient } from '../rpc/master_client.js';
import { CallLimit } from './call_limit.js';
import { EnqueueError } from './enqueue_error.js';
import { type EnqueueItem, outgoing } from './item.js';
import { type Outgoing, type Placement, Sender, type SendResult } from './sender.js';
import { StoreClient } from './store_client.js';

/** Settings of a producer. */
export interface ProducerOptions {
  /** Path of the global configuration file. Paths in it are relative to the working directory. */
  readonly global_config_path: string;
  /** Name of the topic that items go to which do not name one. Not needed if there is only one topic. */
  readonly topic?: string;
  /** How long an enqueue may take altogether, in milliseconds. Default 10,000. */
  readonly timeout_ms?: number;
  /**
   * How long an enqueue waits for a queue to have a master again, in milliseconds; nothing is enqueued meanwhile.
   * Default 5,000, which is longer than a failover takes. 0: not at all.
   */
  readonly failover_wait_ms?: number;
  /**
   * Sends items again of which nobody knows whether they were enqueued: fewer errors, but an item may come twice, and
   * its second copy behind later items of its key. Default false: the caller decides, see `EnqueueError`.
   */
  readonly retry_unknown?: boolean;
  /**
   * Gathers the items of concurrent calls into one request, for the topic's producer_batch_delay_time_ms at most: more
   * items per second, and a longer way for a lone one. Default false.
   */
  readonly batching?: boolean;
  /** How many items may be on their way at a time; more are refused. Default 100,000. */
  readonly pending_items_max?: number;
  /** How many bytes they may have together. Default 256 MiB. */
  readonly pending_bytes_max?: number;
  /** How long connecting to a store may take, in milliseconds. Default 200. */
  readonly connect_timeout_ms?: number;
  /** How long a store may take to answer, in milliseconds. Default 5,000. */
  readonly socket_timeout_ms?: number;
  /** Connections to one replica; calls beyond that wait for one to be free. Default 256. */
  readonly connections_max?: number;
  /** Gets one line for each oddity in the configuration. */
  readonly onWarning?: (line: string) => void;
}

/** Limits of one call. */
export interface EnqueueOptions {
  readonly signal?: AbortSignal;
  /** In place of the producer's `timeout_ms`. */
  readonly timeout_ms?: number;
}

const TIMEOUT_MS = 10_000;
const FAILOVER_WAIT_MS = 5_000;
const PENDING_ITEMS_MAX = 100_000;
const PENDING_BYTES_MAX = 256 * 1024 * 1024;

/**
 * Puts items into queues. When `enqueue` resolves, the item is on the disks of a majority of the replicas.
 *
 * Items of one `uin` that are enqueued one after the other, each after the one before it was acknowledged, are
 * delivered in that order; so are those of one `enqueueAll`. Between calls that run at the same time there is no order.
 */
export class Producer {
  readonly #config: GlobalConfig;
  readonly #default_topic: TopicFiles | undefined;
  readonly #options: ProducerOptions;
  readonly #client: RpcClient;
  readonly #store_client: StoreClient;
  readonly #senders = new Map<TopicFiles, Sender>();
  readonly #pending_items_max: number;
  readonly #pending_bytes_max: number;
  #pending_items = 0;
  #pending_bytes = 0;
  #onIdle: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  /** Loads the configuration; connects when there is something to send. Throws PhxError CONFIG. */
  constructor(options: ProducerOptions) {
    this.#options = options;
    const onWarning = options.onWarning ?? (() => undefined);
    this.#config = loadGlobalConfig(options.global_config_path, { onWarning });
    const { topics } = this.#config;
    this.#default_topic = topics.length === 1 ? topics[0] : undefined;
    if (options.topic !== undefined) {
      this.#default_topic = this.#config.requireTopic(options.topic, { file: 'producer options', key: 'topic' });
    }
    this.#pending_items_max = options.pending_items_max ?? PENDING_ITEMS_MAX;
    this.#pending_bytes_max = options.pending_bytes_max ?? PENDING_BYTES_MAX;
    const { connect_timeout_ms, socket_timeout_ms, connections_max } = options;
    this.#client = new RpcClient({
      ...(connect_timeout_ms === undefined ? {} : { connect_timeout_ms }),
      ...(socket_timeout_ms === undefined ? {} : { socket_timeout_ms }),
      ...(connections_max === undefined ? {} : { connections_max }),
    });
    this.#store_client = new StoreClient(new MasterClient(this.#client));
  }

  /** As the constructor, for callers that want a promise which rejects. */
  static async open(options: ProducerOptions): Promise<Producer> {
    return new Producer(options);
  }

  /** How many items are on their way. */
  get pending_items(): number {
    return this.#pending_items;
  }

  /** Puts one item into its queue; resolves to where it is. Throws EnqueueError. */
  async enqueue(item: EnqueueItem, options: EnqueueOptions = {}): Promise<Placement> {
    const [result] = await this.enqueueAll([item], options);
    if (result?.placement !== undefined) return result.placement;
    throw result?.error ?? new EnqueueError(RetCode.UNEXPECTED, 'the item has no result');
  }

  /**
   * Puts items of one topic into their queues, in few requests; resolves to the result of each, in the same order. Some
   * may fail while others do not; of the items for one queue none is enqueued behind one that failed. Throws
   * EnqueueError, and nothing was sent, if one of the items is malformed or too large, if too many are on their way, or
   * after `close`.
   */
  async enqueueAll(items: readonly EnqueueItem[], options: EnqueueOptions = {}): Promise<SendResult[]> {
    if (this.#closed !== undefined)
      throw new EnqueueError(RetCode.UNINIT, 'the producer is closed', { code: 'CLOSED' });
    if (items.length === 0) return [];
    const topic = this.#topicOf(items);
    const now_ms = Date.now();
    const encoded = items.map((item) => outgoing(item, topic.topic, now_ms));
    const bytes = checkSizes(encoded, topic);
    this.#admit(encoded.length, bytes);
    const limit = new CallLimit(options.timeout_ms ?? this.#options.timeout_ms ?? TIMEOUT_MS, options.signal);
    try {
      return await this.#senderOf(topic).send(encoded, limit);
    } finally {
      limit.release();
      this.#pending_items -= encoded.length;
      this.#pending_bytes -= bytes;
      if (this.#pending_items === 0) this.#onIdle?.();
    }
  }

  /**
   * Accepts nothing more, sends what waits in batches, waits for all calls that run, and closes the connections. Takes
   * no longer than the calls' own limits.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#senders.values()].map((sender) => sender.flush()));
    if (this.#pending_items > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    await this.#client.close();
  }

  #topicOf(items: readonly EnqueueItem[]): TopicFiles {
    const topic_ids = new Set(items.map((item) => item.topic_id ?? this.#default_topic?.info.topic_id));
    const [topic_id] = topic_ids;
    if (topic_ids.size > 1) throw new EnqueueError(RetCode.ARG, 'the items of one call must be of one topic');
    if (topic_id === undefined) {
      throw new EnqueueError(RetCode.RANGE_TOPIC, 'topic_id is missing, and the configuration has several topics');
    }
    const topic = this.#config.topicById(topic_id);
    if (topic === undefined) {
      throw new EnqueueError(RetCode.RANGE_TOPIC, `${this.#config.file} has no topic with topic_id ${topic_id}`);
    }
    return topic;
  }

  #senderOf(topic: TopicFiles): Sender {
    let sender = this.#senders.get(topic);
    if (sender === undefined) {
      sender = new Sender(topic, this.#store_client, {
        failover_wait_ms: this.#options.failover_wait_ms ?? FAILOVER_WAIT_MS,
        retry_unknown: this.#options.retry_unknown ?? false,
        batching: this.#options.batching ?? false,
      });
      this.#senders.set(topic, sender);
    }
    return sender;
  }

  #admit(items: number, bytes: number): void {
    if (this.#pending_items + items > this.#pending_items_max) {
      const message = `more than ${this.#pending_items_max} items on their way in this producer; try again later`;
      throw new EnqueueError(RetCode.PROPOSE_FAST_REJECT, message);
    }
    if (this.#pending_bytes + bytes > this.#pending_bytes_max) {
      const message = `more than ${this.#pending_bytes_max} bytes on their way in this producer; try again later`;
      throw new EnqueueError(RetCode.PROPOSE_FAST_REJECT, message);
    }
    this.#pending_items += items;
    this.#pending_bytes += bytes;
  }
}

/** Adds up the bytes of all items. Throws EnqueueError SIZE_TOO_LARGE if one alone is more than a request may hold. */
function checkSizes(items: readonly Outgoing[], { topic }: TopicFiles): number {
  const limit_bytes = topic.topic.items_byte_size_limit;
  let total = 0;
  for (const { bytes } of items) {
    if (bytes.length > limit_bytes) {
      const message = `an item of ${bytes.length} bytes is above items_byte_size_limit, ${limit_bytes} bytes`;
      throw new EnqueueError(RetCode.SIZE_TOO_LARGE, message);
    }
    total += bytes.length;
  }
  return total;
}
