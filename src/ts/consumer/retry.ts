import type { TopicFiles } from '../config/global_config.js';
import { PhxError } from '../errors.js';
import { Backoff, type BackoffLimits, pause } from '../producer/backoff.js';
import { CallLimit } from '../producer/call_limit.js';
import type { EnqueueError } from '../producer/enqueue_error.js';
import { CURSOR_DROPPED, type Outgoing, type Sender } from '../producer/sender.js';
import { encode, type QItem } from '../protocol/messages.js';
import { type AssignedQueue, type Log, queueKey } from './assigned_queue.js';
import type { DeadLetter, DeadLetterFile } from './dead_letter_file.js';
import type { Tally } from './tally.js';

/** Waits between tries to hand failed items over. */
const HAND_OVER_BACKOFF: BackoffLimits = { first_ms: 200, longest_ms: 2_000 };
/** How long one try may take, in milliseconds. */
const HAND_OVER_MS = 10_000;

/**
 * Hands failed items over to the next queue of their pub's retry chain, with their count one higher, for the group that
 * failed alone. An item whose chain is at its end, or for which no queue can be had, goes to the dead letters.
 */
export class Retry {
  readonly #files: TopicFiles;
  readonly #sender: Sender;
  readonly #dead_letters: DeadLetterFile;
  readonly #tally: Tally;
  readonly #log: Log;
  readonly #now_ms: () => number;

  constructor(
    files: TopicFiles,
    sender: Sender,
    dead_letters: DeadLetterFile,
    tally: Tally,
    log: Log,
    now_ms: () => number = Date.now,
  ) {
    this.#files = files;
    this.#sender = sender;
    this.#dead_letters = dead_letters;
    this.#tally = tally;
    this.#log = log;
    this.#now_ms = now_ms;
  }

  /**
   * Tries until all items are handed over or `signal` fires; resolves to those that are left. Items of one key keep
   * their order. Never rejects.
   */
  async handOver(items: readonly QItem[], queue: AssignedQueue, signal: AbortSignal): Promise<ReadonlySet<QItem>> {
    const backoff = new Backoff(HAND_OVER_BACKOFF);
    let left = await this.#try(items, queue, signal);
    while (left.length > 0 && !signal.aborted) {
      await pause(backoff.next(), signal);
      if (!signal.aborted) left = await this.#try(left, queue, signal);
    }
    return new Set(left);
  }

  async #try(items: readonly QItem[], queue: AssignedQueue, signal: AbortSignal): Promise<QItem[]> {
    const limit = new CallLimit(HAND_OVER_MS, signal);
    const results = await this.#sender.send(
      items.map((item) => this.#again(item, queue)),
      limit,
    );
    limit.release();
    const left: QItem[] = [];
    const dead: [QItem, EnqueueError][] = [];
    for (const [position, item] of items.entries()) {
      const error = results[position]?.error;
      if (error === undefined) this.#tally.count('retries');
      else if (isFinal(error)) dead.push([item, error]);
      else left.push(item);
    }
    const failed = results.find((result) => result.error !== undefined && !isFinal(result.error));
    if (failed?.error !== undefined) {
      const what = `${left.length} failed items of queue ${queueKey(queue)}`;
      this.#log('warn', `${what} are not in a retry queue yet: ${failed.error.message}`);
    }
    return [...left, ...(await this.#bury(dead, queue))];
  }

  /** The item as it is enqueued again. */
  #again(item: QItem, { consumer_group_id }: AssignedQueue): Outgoing {
    const now_ms = this.#now_ms();
    const count = item.count + 1;
    const bytes = encode('QItem', {
      ...item,
      count,
      consumer_group_ids: 1n << BigInt(consumer_group_id - 1),
      // A queue's delay counts from here.
      atime: BigInt(Math.floor(now_ms / 1000)),
      atime_ms: Math.floor(now_ms) % 1000,
      cursor_id: CURSOR_DROPPED,
    });
    return { pub_id: item.pub_id, count, uin: item.meta?.uin ?? 0n, bytes };
  }

  /** Returns the items that could not be written to the dead letters. */
  async #bury(dead: readonly [QItem, EnqueueError][], queue: AssignedQueue): Promise<QItem[]> {
    if (dead.length === 0) return [];
    const where = `${dead.length} items of queue ${queueKey(queue)}`;
    try {
      await this.#dead_letters.append(dead.map(([item, error]) => this.#letter(item, error, queue)));
    } catch (error) {
      if (!(error instanceof PhxError)) throw error;
      this.#log('error', `${where} cannot go to the dead letters: ${error.message}: ${String(error.cause)}`);
      return dead.map(([item]) => item);
    }
    this.#tally.count('dead_letters', dead.length);
    this.#log('error', `${where} are dead letters in ${this.#dead_letters.path}: ${dead[0]?.[1].message}`);
    return [];
  }

  #letter(item: QItem, error: EnqueueError, queue: AssignedQueue): DeadLetter {
    const { cursor_id, pub_id, count, buffer, buffer_type, meta } = item;
    return {
      reason: error.message,
      ret: error.ret,
      topic_id: this.#files.info.topic_id,
      ...queue,
      cursor_id,
      pub_id,
      handle_id: meta?.handle_id ?? 0,
      uin: meta?.uin ?? 0n,
      count,
      client_id: meta?.client_id ?? '',
      buffer_type,
      buffer,
    };
  }
}

/** Whether trying again is in vain. An item that is then kept in a file can still be enqueued by hand. */
function isFinal(error: EnqueueError): boolean {
  if (error.outcome_unknown || error.retryable || error.passing) return false;
  return error.code !== 'ABORTED' && error.code !== 'CLOSED';
}
