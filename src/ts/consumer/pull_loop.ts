import type { TopicConfig } from '../config/topic.js';
import type { GetRequest, GetResponse, QItem } from '../protocol/messages.js';
import { RetCode } from '../protocol/ret_code.js';
import { pause } from '../producer/backoff.js';
import { acknowledgeableCursor } from './acknowledgement.js';
import type { HandlerResult } from './handler.js';
import type { Lanes } from './lanes.js';
import { type AssignedQueue, type LogLevel, queueKey } from './worker_messages.js';

/** The cursor that means "none": a Get with it resumes where the group's stored cursor stands. */
export const CURSOR_NONE = 0xffff_ffff_ffff_ffffn;

/** How long the last acknowledgement of a loop that stops may take, in milliseconds. */
const LAST_ACK_MS = 2_000;

const NOTHING_FAILED: ReadonlySet<QItem> = new Set();

/** What a Get came back with; `response` is undefined when no answer arrived. */
export interface GetOutcome {
  readonly ret: number;
  readonly response: GetResponse | undefined;
}

/** What a pull loop needs of the rest of the worker. */
export interface PullLoopPorts {
  /** The topic's configuration as it is now. */
  readonly topic: () => TopicConfig;
  /** Sends a Get to the queue's master. Never rejects. */
  readonly get: (request: GetRequest, signal: AbortSignal) => Promise<GetOutcome>;
  /** Handles one item; never rejects. */
  readonly handle: (item: QItem, queue: AssignedQueue, signal: AbortSignal) => Promise<HandlerResult>;
  /**
   * Hands over failed items to their retry queues or to the dead letters, and tries until it is done or `signal` fires.
   * Resolves to those that it could not hand over; these stay unacknowledged. Never rejects.
   */
  readonly retry: (items: readonly QItem[], queue: AssignedQueue, signal: AbortSignal) => Promise<ReadonlySet<QItem>>;
  readonly lanes: Lanes;
  readonly log: (level: LogLevel, line: string) => void;
  readonly now_ms: () => number;
  readonly random: () => number;
}

/**
 * Serves one queue for one group: fetches, hands the items to the lanes, and acknowledges a fetch by the next Get, after
 * every item of it is done with. A loop that dies acknowledges nothing, so its successor gets the fetch again.
 */
export class PullLoop {
  readonly queue: AssignedQueue;
  readonly #ports: PullLoopPorts;
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
    const topic = this.#ports.topic();
    const queue_info = topic.queueInfoByQueue(this.queue.queue_id);
    if (queue_info === undefined) {
      this.#ports.log('error', `ERR: queue ${queueKey(this.queue)} is not in the configuration; not served`);
      return 1_000_000;
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
    const items = response.items;
    if (items.length === 0) {
      this.#finished_cursor_id = this.#next_cursor_id;
      return queue_info.sleep_us_on_get_no_item + queue_info.sleep_us_per_get;
    }
    await this.#consume(items, queue_info.drop_all !== 0, queue_info.handle_by_random_uin !== 0);
    const few = items.length < queue_info.get_size_too_small_threshold;
    return queue_info.sleep_us_per_get + (few ? queue_info.sleep_us_on_get_size_too_small : 0);
  }

  #makeGet(topic_id: number, limit: number, delay_s: number): GetRequest {
    const { consumer_group_id, store_id, queue_id } = this.queue;
    const request: GetRequest = {
      topic_id,
      store_id,
      queue_id,
      limit,
      consumer_group_id,
      prev_cursor_id: this.#next_cursor_id,
      next_cursor_id: this.#next_cursor_id,
    };
    if (delay_s <= 0) return request;
    const newest_ms = this.#ports.now_ms() - delay_s * 1000;
    return { ...request, atime: BigInt(Math.floor(newest_ms / 1000)), atime_ms: Math.floor(newest_ms) % 1000 };
  }

  #logGet(topic_id: number, ret: number, response: GetResponse | undefined): void {
    const { consumer_group_id, store_id, queue_id } = this.queue;
    this.#ports.log(
      'info',
      `INFO: Dequeue ret ${ret} topic ${topic_id} consumer_group_id ${consumer_group_id} store_id ${store_id} ` +
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
      const lane_key = keyless || uin === 0n ? null : `${queueKey(this.queue)}/${uin}`;
      await this.#ports.lanes.run(lane_key, async () => {
        if (this.#stop.signal.aborted) return;
        results[position] = await this.#ports.handle(item, this.queue, this.#give_up.signal);
      });
    });
    await settledOrAborted(Promise.all(handled), this.#give_up.signal);
    const cursors = items.map((item) => item.cursor_id);
    const finished = acknowledgeableCursor(cursors, (position) => results[position] !== undefined);
    if (finished === null) return;
    // Only what is going to be acknowledged is enqueued again: the rest is delivered again as it is.
    const failed = items.filter((item, position) => results[position] === 'ERROR' && item.cursor_id <= finished);
    const unplaced = failed.length === 0 ? NOTHING_FAILED : await this.#ports.retry(failed, this.queue, this.#give_up.signal);
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
    return this.#ports.topic().isSkipped({
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
    const topic_id = this.#ports.topic().topic.topic_id;
    const request: GetRequest = { ...this.#makeGet(topic_id, 0, 0), prev_cursor_id: acknowledged };
    const { ret, response } = await this.#ports.get(request, AbortSignal.timeout(LAST_ACK_MS));
    this.#logGet(topic_id, ret, response);
  }

  #sleep(wait_us: number): Promise<void> {
    return pause((wait_us + this.#ports.random() * wait_us) / 1000, this.#stop.signal);
  }
}

/** Resolves when `work` has, or when `signal` fires. Leaves nothing behind on the signal, which outlives many fetches. */
function settledOrAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(() => resolve(), reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
