import { setMaxListeners } from 'node:events';
import type { TopicConfig } from '../config/topic.js';
import { pause } from '../producer/backoff.js';
import type { GetOutcome } from '../producer/store_client.js';
import type { GetRequest, GetResponse, Init, QItem } from '../protocol/messages.js';
import { RetCode } from '../protocol/ret_code.js';
import { acknowledgeableCursor } from './acknowledgement.js';
import { type AssignedQueue, type Log, queueKey } from './assigned_queue.js';
import type { HandlerResult } from './handler.js';
import { atimeMs } from './item_handling.js';
import type { Lanes } from './lanes.js';

/** The cursor that means "none": a Get with it resumes where the group's stored cursor stands. */
export const CURSOR_NONE = 0xffff_ffff_ffff_ffffn;

/** How long the last acknowledgement of a loop that stops may take, in milliseconds. */
const LAST_ACK_MS = 2_000;

/** How long a loop waits whose queue is not in the configuration, in microseconds. */
const UNKNOWN_QUEUE_US = 1_000_000;

const NOTHING_FAILED: ReadonlySet<QItem> = new Set();

/** What a pull loop needs of the rest of the consumer. */
export interface PullLoopPorts {
  readonly topic: TopicConfig;
  /** Sends a Get to the queue's master. Never rejects. */
  readonly get: (request: Init<GetRequest>, signal: AbortSignal) => Promise<GetOutcome>;
  /** Handles one item. Never rejects. */
  readonly handle: (item: QItem, signal: AbortSignal) => Promise<HandlerResult>;
  /**
   * Hands failed items over to their retry queues or to the dead letters, and tries until it is done or `signal` fires.
   * Resolves to those that it could not hand over; these stay unacknowledged. Never rejects.
   */
  readonly retry: (items: readonly QItem[], signal: AbortSignal) => Promise<ReadonlySet<QItem>>;
  /** Told after each Get how far the queue is behind, in milliseconds. */
  readonly observeLag: (lag_ms: number) => void;
  readonly lanes: Lanes;
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly now_ms?: () => number;
  readonly random?: () => number;
}

/**
 * Serves one queue for one group: fetches, hands the items to the lanes, and acknowledges a fetch by the next Get,
 * after every item of it is done with. A loop that dies acknowledges nothing, so its successor gets the fetch again.
 */
export class PullLoop {
  readonly queue: AssignedQueue;
  readonly #ports: PullLoopPorts;
  readonly #now_ms: () => number;
  readonly #random: () => number;
  readonly #stop = new AbortController();
  readonly #give_up = new AbortController();
  #done: Promise<void> | undefined;
  #prev_cursor_id = CURSOR_NONE;
  #next_cursor_id = CURSOR_NONE;
  /** Up to where the items of the last fetch are finished. */
  #finished_cursor_id: bigint | null = null;
  #limit = 0;

  constructor(queue: AssignedQueue, ports: PullLoopPorts) {
    this.queue = queue;
    this.#ports = ports;
    // Every handler that runs may listen.
    setMaxListeners(0, this.#give_up.signal);
    this.#now_ms = ports.now_ms ?? Date.now;
    this.#random = ports.random ?? Math.random;
  }

  /** Begins to serve the queue. */
  start(): void {
    this.#done ??= this.#run();
  }

  /**
   * Fetches no more, lets running handlers finish for `grace_ms` milliseconds at most, starts no further ones, and
   * acknowledges what is finished. Resolves when the loop has ended.
   */
  async stop(grace_ms: number): Promise<void> {
    this.#stop.abort();
    const timer = setTimeout(() => this.#give_up.abort(), grace_ms);
    await this.#done;
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const wait_us = await this.#step();
      if (wait_us > 0) await this.#sleep(wait_us);
    }
    await this.#acknowledgeLast();
  }

  /** One Get and all that follows from it; returns how long to wait before the next, in microseconds. */
  async #step(): Promise<number> {
    const { topic } = this.#ports;
    const queue_info = topic.queueInfoByQueue(this.queue.queue_id);
    if (queue_info === undefined) {
      this.#ports.log('error', `queue ${queueKey(this.queue)} is not in the configuration; not served`);
      return UNKNOWN_QUEUE_US;
    }
    const batch_limit = topic.topic.batch_limit;
    if (this.#limit === 0) this.#limit = batch_limit;
    const { ret, response } = await this.#ports.get(
      this.#makeGet(topic.topic.topic_id, this.#limit, queue_info.delay),
      this.#give_up.signal,
    );
    this.#logGet(topic.topic.topic_id, ret, response);
    if (ret !== RetCode.OK || response === undefined) {
      this.#limit = Math.max(1, Math.floor(this.#limit / 2));
      return queue_info.sleep_us_on_get_fail;
    }
    this.#limit = Math.min(batch_limit, this.#limit + Math.max(1, Math.floor(batch_limit / 10)));
    this.#prev_cursor_id = response.prev_cursor_id;
    this.#next_cursor_id = response.next_cursor_id;
    this.#finished_cursor_id = null;
    const { items } = response;
    const newest = items.at(-1);
    this.#ports.observeLag(newest === undefined ? 0 : Math.max(0, this.#now_ms() - atimeMs(newest)));
    if (items.length === 0) {
      this.#finished_cursor_id = this.#next_cursor_id;
      return queue_info.sleep_us_on_get_no_item + queue_info.sleep_us_per_get;
    }
    await this.#consume(items, queue_info.drop_all !== 0, queue_info.handle_by_random_uin !== 0);
    const few = items.length < queue_info.get_size_too_small_threshold;
    return queue_info.sleep_us_per_get + (few ? queue_info.sleep_us_on_get_size_too_small : 0);
  }

  #makeGet(topic_id: number, limit: number, delay_s: number): Init<GetRequest> {
    const { consumer_group_id, store_id, queue_id } = this.queue;
    const request = {
      topic_id,
      store_id,
      queue_id,
      limit,
      consumer_group_id,
      prev_cursor_id: this.#next_cursor_id,
      next_cursor_id: this.#next_cursor_id,
    };
    if (delay_s <= 0) return request;
    const newest_ms = this.#now_ms() - delay_s * 1000;
    return { ...request, atime: BigInt(Math.floor(newest_ms / 1000)), atime_ms: Math.floor(newest_ms) % 1000 };
  }

  #logGet(topic_id: number, ret: number, response: GetResponse | undefined): void {
    const { consumer_group_id, store_id, queue_id } = this.queue;
    this.#ports.log(
      'info',
      `Dequeue ret ${ret} topic ${topic_id} consumer_group_id ${consumer_group_id} store_id ${store_id} ` +
        `queue_id ${queue_id} size ${response?.items.length ?? 0} ` +
        `prev_cursor_id ${response?.prev_cursor_id ?? this.#next_cursor_id} ` +
        `next_cursor_id ${response?.next_cursor_id ?? this.#next_cursor_id}`,
    );
  }

  async #consume(items: readonly QItem[], drop_all: boolean, keyless: boolean): Promise<void> {
    const results = new Array<HandlerResult | undefined>(items.length).fill(undefined);
    const handled = items.map(async (item, position) => {
      if (drop_all || this.#isSkipped(item)) {
        results[position] = 'OK';
        return;
      }
      const uin = item.meta?.uin ?? 0n;
      const lane_key = keyless || uin === 0n ? null : String(uin);
      await this.#ports.lanes.run(lane_key, async () => {
        if (this.#stop.signal.aborted) return;
        results[position] = await this.#ports.handle(item, this.#give_up.signal);
      });
    });
    await settledOrAborted(Promise.all(handled), this.#give_up.signal);
    const cursors = items.map((item) => item.cursor_id);
    const finished = acknowledgeableCursor(cursors, (position) => results[position] !== undefined);
    if (finished === null) return;
    // Only what is going to be acknowledged is enqueued again: the rest is delivered again as it is.
    const failed = items.filter((item, position) => results[position] === 'ERROR' && item.cursor_id <= finished);
    const unplaced = failed.length === 0 ? NOTHING_FAILED : await this.#ports.retry(failed, this.#give_up.signal);
    this.#finished_cursor_id = acknowledgeableCursor(cursors, (position) => {
      const item = items[position];
      return item !== undefined && item.cursor_id <= finished && !unplaced.has(item);
    });
    // What the store skipped behind the last item is acknowledged along with it.
    if (this.#finished_cursor_id === cursors.at(-1)) this.#finished_cursor_id = this.#next_cursor_id;
  }

  /** Items that are not for this group, and those that the configuration says to pass over, count as handled. */
  #isSkipped(item: QItem): boolean {
    const bit = 1n << BigInt(this.queue.consumer_group_id - 1);
    if ((item.consumer_group_ids & bit) === 0n) return true;
    return this.#ports.topic.isSkipped({
      uin: item.meta?.uin ?? 0n,
      pub_id: item.pub_id,
      consumer_group_id: this.queue.consumer_group_id,
      queue_id: this.queue.queue_id,
      handle_id: item.meta?.handle_id ?? 0,
    });
  }

  async #acknowledgeLast(): Promise<void> {
    const acknowledged = this.#finished_cursor_id;
    if (acknowledged === null || acknowledged === this.#prev_cursor_id || acknowledged === CURSOR_NONE) return;
    const { topic_id } = this.#ports.topic.topic;
    const request = { ...this.#makeGet(topic_id, 0, 0), prev_cursor_id: acknowledged };
    const { ret, response } = await this.#ports.get(request, AbortSignal.timeout(LAST_ACK_MS));
    this.#logGet(topic_id, ret, response);
  }

  #sleep(wait_us: number): Promise<void> {
    return pause((wait_us + this.#random() * wait_us) / 1000, this.#stop.signal);
  }
}

/**
 * Resolves when `work` has, or when `signal` fires. Leaves nothing behind on the signal, which outlives many fetches.
 */
function settledOrAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(() => resolve(), reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
