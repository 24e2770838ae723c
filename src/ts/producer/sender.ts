import type { StoreConfig, TopicFiles } from '../config/global_config.js';
import { assert } from '../errors.js';
import { RetCode } from '../protocol/ret_code.js';
import { Backoff, type BackoffLimits, pause } from './backoff.js';
import { Batcher } from './batcher.js';
import type { CallLimit } from './call_limit.js';
import { EnqueueError } from './enqueue_error.js';
import { type Choice, type Selectable, Selector } from './selector.js';
import { type Route, routeKey, type StoreClient } from './store_client.js';

/** Waits between two rounds of tries while a queue has no master. */
export const FAILOVER_BACKOFF: BackoffLimits = { first_ms: 20, longest_ms: 500 };

/** The cursor of an item that was not enqueued because its queue's configuration says to drop everything. */
export const CURSOR_DROPPED = 0xffff_ffff_ffff_ffffn;

/** An item as it is sent: what decides where it goes, and its bytes as a QItem. */
export interface Outgoing extends Selectable {
  readonly bytes: Uint8Array;
}

/** Where an item was put. */
export interface Placement {
  readonly store_id: number;
  readonly queue_id: number;
  /** The item's place in its queue. 2^64-1 if the queue's configuration says to drop everything. */
  readonly cursor: bigint;
}

/** What became of one item: where it was put, or why not. */
export type SendResult =
  | { readonly placement: Placement; readonly error?: undefined }
  | { readonly placement?: undefined; readonly error: EnqueueError };

/** How a sender goes about it. */
export interface SendOptions {
  /** How long to wait for a queue to have a master again, in milliseconds. */
  readonly failover_wait_ms: number;
  /** Whether items that may be in the queue already are sent again. */
  readonly retry_unknown: boolean;
  /** Whether the items of concurrent calls are gathered into one request. */
  readonly batching: boolean;
}

/** An item on its way. */
class Pending {
  readonly item: Outgoing;
  readonly key: bigint;
  readonly tried = new Set<StoreConfig>();
  placement: Placement | undefined;
  error: EnqueueError | undefined;
  /** The error that says whether to try again: its own, or that of an item in front of it. */
  decisive: EnqueueError | undefined;
  maybe_sent = false;

  constructor(item: Outgoing, key: bigint) {
    this.item = item;
    this.key = key;
  }

  fail(error: EnqueueError, decisive = error): void {
    this.error = error;
    this.decisive = decisive;
    this.maybe_sent ||= error.outcome_unknown;
  }

  result(): SendResult {
    if (this.placement !== undefined) return { placement: this.placement };
    assert(this.error !== undefined, 'an item was placed or has failed');
    return { error: this.maybe_sent ? this.error.withOutcomeUnknown() : this.error };
  }
}

interface Group {
  readonly choice: Choice;
  readonly members: Pending[];
}

/**
 * Sends the items of one topic: chooses their queues, splits them into requests, and tries again where that is safe.
 *
 * A round is one try and as many retries as the configuration says, switching store and queue if it says so. When a
 * round ends because of a change of master, which is over soon and before which nothing was enqueued, the next one
 * follows after a wait. Of the items that go to one queue none is sent before those in front of it are in the queue.
 */
export class Sender {
  readonly selector: Selector;
  readonly #files: TopicFiles;
  readonly #client: StoreClient;
  readonly #options: SendOptions;
  readonly #batcher: Batcher<Route, Uint8Array> | undefined;

  constructor(files: TopicFiles, client: StoreClient, options: SendOptions) {
    this.selector = new Selector(files);
    this.#files = files;
    this.#client = client;
    this.#options = options;
    this.#batcher = options.batching ? new Batcher((route, items) => client.add(route, items)) : undefined;
  }

  /** Sends items; resolves to their results in the same order. */
  async send(items: readonly Outgoing[], limit: CallLimit): Promise<SendResult[]> {
    // Items without a key that are handed in together go together, into one queue.
    const key = this.selector.randomKey();
    const all = items.map((item) => new Pending(item, key));
    const backoff = new Backoff(FAILOVER_BACKOFF);
    const wait_until_ms = performance.now() + this.#options.failover_wait_ms;
    let open = this.#refuseTooLarge(all);
    for (;;) {
      open = await this.#round(open, limit);
      open = open.filter(({ decisive }) => decisive !== undefined && this.#mayWait(decisive));
      const wait_ms = backoff.next();
      if (open.length === 0 || performance.now() + wait_ms > wait_until_ms) break;
      await pause(wait_ms, limit.signal);
      if (limit.signal.aborted) {
        for (const pending of open) pending.fail(limit.error(false));
        break;
      }
    }
    return all.map((pending) => pending.result());
  }

  /** Sends what waits in batches at once, and resolves when it was answered. */
  async flush(): Promise<void> {
    await this.#batcher?.flush();
  }

  /** Marks the items that no request can hold; returns the others. */
  #refuseTooLarge(all: readonly Pending[]): Pending[] {
    const limit_bytes = this.#files.topic.topic.items_byte_size_limit;
    return all.filter((pending) => {
      const bytes = pending.item.bytes.length;
      if (bytes <= limit_bytes) return true;
      const message = `an item of ${bytes} bytes is above items_byte_size_limit, ${limit_bytes} bytes`;
      pending.fail(new EnqueueError(RetCode.SIZE_TOO_LARGE, message));
      return false;
    });
  }

  /** One try and the configured retries; returns the items that failed. */
  async #round(items: readonly Pending[], limit: CallLimit): Promise<Pending[]> {
    const nretry = this.#files.topic.topic.producer_nretry_raw_add;
    for (const pending of items) pending.tried.clear();
    let again = [...items];
    for (let attempt = 0; attempt <= nretry && again.length > 0; attempt += 1) {
      await Promise.all(this.#groups(again, attempt).map((group) => this.#sendGroup(group, limit)));
      again = again.filter(({ decisive }) => decisive !== undefined && this.#mayRetry(decisive, limit));
    }
    return items.filter(({ error }) => error !== undefined);
  }

  /** The items by where they go, each group in the order of `items`. An item without a place fails. */
  #groups(items: readonly Pending[], attempt: number): Group[] {
    const groups = new Map<string, Group>();
    for (const pending of items) {
      let choice: Choice;
      try {
        choice = this.selector.choose(pending.item, pending.key, attempt, pending.tried);
      } catch (error) {
        if (!(error instanceof EnqueueError)) throw error;
        pending.fail(error);
        continue;
      }
      pending.tried.add(choice.store);
      const key = routeKey(choice.route);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { choice, members: [pending] });
      else group.members.push(pending);
    }
    return [...groups.values()];
  }

  /** Sends request after request, and stops at the first that fails: what comes behind must not get ahead. */
  async #sendGroup({ choice, members }: Group, limit: CallLimit): Promise<void> {
    const { store_id, queue_id } = choice.route;
    const parts = this.#split(members);
    for (const [n, part] of parts.entries()) {
      try {
        const first = choice.drop_all ? CURSOR_DROPPED : await this.#add(choice.route, part, limit);
        for (const [position, pending] of part.entries()) {
          const cursor = choice.drop_all ? CURSOR_DROPPED : first + BigInt(position);
          pending.placement = { store_id, queue_id, cursor };
          pending.error = undefined;
          pending.decisive = undefined;
        }
      } catch (error) {
        if (!(error instanceof EnqueueError)) throw error;
        for (const pending of part) pending.fail(error);
        for (const pending of parts.slice(n + 1).flat()) pending.fail(heldBack(error), error);
        return;
      }
    }
  }

  /** Cuts the items into requests that keep to the topic's limits. */
  #split(members: readonly Pending[]): Pending[][] {
    const { batch_limit, items_byte_size_limit } = this.#files.topic.topic;
    const parts: Pending[][] = [];
    let part: Pending[] = [];
    let part_bytes = 0;
    for (const pending of members) {
      const { length } = pending.item.bytes;
      if (part.length > 0 && (part.length === batch_limit || part_bytes + length > items_byte_size_limit)) {
        parts.push(part);
        part = [];
        part_bytes = 0;
      }
      part.push(pending);
      part_bytes += length;
    }
    parts.push(part);
    return parts;
  }

  async #add(route: Route, part: readonly Pending[], limit: CallLimit): Promise<bigint> {
    if (limit.signal.aborted) throw limit.error(false);
    const items = part.map((pending) => pending.item.bytes);
    try {
      if (this.#batcher === undefined) return await this.#client.add(route, items, limit.signal);
      const { batch_limit, items_byte_size_limit, producer_batch_delay_time_ms } = this.#files.topic.topic;
      const bytes = items.reduce((sum, item) => sum + item.length, 0);
      const limits = {
        items_max: batch_limit,
        bytes_max: items_byte_size_limit,
        delay_ms: producer_batch_delay_time_ms,
      };
      return await this.#batcher.add(routeKey(route), route, items, bytes, limits, limit.signal);
    } catch (error) {
      const aborted = error instanceof EnqueueError && error.code === 'ABORTED';
      throw aborted ? limit.error(error.outcome_unknown) : error;
    }
  }

  #mayRetry(error: EnqueueError, limit: CallLimit): boolean {
    if (limit.signal.aborted) return false;
    if (error.outcome_unknown) return this.#options.retry_unknown;
    return error.passing || error.ret < 0;
  }

  #mayWait(error: EnqueueError): boolean {
    return error.passing || (error.outcome_unknown && this.#options.retry_unknown);
  }
}

/** The error of items behind those of a request that failed: they were not sent, and go the same way as the others. */
function heldBack(error: EnqueueError): EnqueueError {
  const message = `not sent, because an earlier item for the same queue failed: ${error.message}`;
  return new EnqueueError(error.ret, message, { code: error.code, cause: error });
}
