import { RetCode } from '../protocol/ret_code.js';
import { EnqueueError } from './enqueue_error.js';

/** When a batch is sent; from the topic's configuration. */
export interface BatchLimits {
  readonly items_max: number;
  readonly bytes_max: number;
  readonly delay_ms: number;
}

interface Member<Item> {
  readonly items: readonly Item[];
  readonly bytes: number;
  readonly resolve: (cursor: bigint) => void;
  readonly reject: (cause: unknown) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

class Batch<Route, Item> {
  readonly route: Route;
  readonly members = new Set<Member<Item>>();
  items = 0;
  bytes = 0;
  timer: NodeJS.Timeout | undefined;
  sent = false;

  constructor(route: Route) {
    this.route = route;
  }
}

/**
 * Gathers the items of concurrent callers with the same route (topic, store, queue) into one request. A batch leaves
 * when it holds half of the items or of the bytes that a request may, or when its oldest caller has waited `delay_ms`;
 * half, because the next caller's items might not fit any more.
 */
export class Batcher<Route, Item> {
  readonly #send: (route: Route, items: readonly Item[]) => Promise<bigint>;
  readonly #open = new Map<string, Batch<Route, Item>>();
  readonly #in_flight = new Set<Promise<void>>();
  #pending_items = 0;

  /** `send` delivers one batch and resolves to the cursor of its first item. */
  constructor(send: (route: Route, items: readonly Item[]) => Promise<bigint>) {
    this.#send = send;
  }

  /** How many items wait in open batches or for an answer. */
  get pending_items(): number {
    return this.#pending_items;
  }

  /**
   * Adds the items to the open batch of `key` and resolves, when the batch was taken, to the cursor of the first of
   * them. Rejects as `send` does, and with EnqueueError ABORTED when `signal` fires: it says whether the items had left
   * already. The caller bounds how many items wait.
   */
  add(
    key: string,
    route: Route,
    items: readonly Item[],
    bytes: number,
    limits: BatchLimits,
    signal?: AbortSignal,
  ): Promise<bigint> {
    const full = this.#open.get(key);
    if (full !== undefined && (full.items + items.length > limits.items_max || full.bytes + bytes > limits.bytes_max)) {
      this.#dispatch(key, full);
    }
    const batch = this.#open.get(key) ?? this.#openBatch(key, route, limits.delay_ms);
    return new Promise<bigint>((resolve, reject) => {
      const member: Member<Item> = {
        items,
        bytes,
        resolve,
        reject,
        signal,
        onAbort: () => this.#abort(key, batch, member),
      };
      batch.members.add(member);
      batch.items += items.length;
      batch.bytes += bytes;
      this.#pending_items += items.length;
      signal?.addEventListener('abort', member.onAbort, { once: true });
      if (signal?.aborted === true) member.onAbort();
      else if (2 * batch.items >= limits.items_max || 2 * batch.bytes >= limits.bytes_max) this.#dispatch(key, batch);
    });
  }

  /** Sends all open batches now; resolves when everything that was handed in before has been answered. */
  async flush(): Promise<void> {
    for (const [key, batch] of [...this.#open]) this.#dispatch(key, batch);
    await Promise.all(this.#in_flight);
  }

  #openBatch(key: string, route: Route, delay_ms: number): Batch<Route, Item> {
    const batch = new Batch<Route, Item>(route);
    this.#open.set(key, batch);
    batch.timer = setTimeout(() => this.#dispatch(key, batch), delay_ms);
    return batch;
  }

  #dispatch(key: string, batch: Batch<Route, Item>): void {
    clearTimeout(batch.timer);
    if (this.#open.get(key) === batch) this.#open.delete(key);
    if (batch.sent) return;
    batch.sent = true;
    if (batch.members.size === 0) return;
    const answered = this.#deliver(batch).finally(() => this.#in_flight.delete(answered));
    this.#in_flight.add(answered);
  }

  async #deliver(batch: Batch<Route, Item>): Promise<void> {
    // Aborted callers leave `batch.members`, yet their items stay in the request and keep their cursors.
    const members = [...batch.members];
    try {
      let cursor = await this.#send(
        batch.route,
        members.flatMap((member) => member.items),
      );
      for (const member of members) {
        this.#release(member);
        member.resolve(cursor);
        cursor += BigInt(member.items.length);
      }
    } catch (cause) {
      for (const member of members) {
        this.#release(member);
        member.reject(cause);
      }
    }
  }

  #release(member: Member<Item>): void {
    this.#pending_items -= member.items.length;
    member.signal?.removeEventListener('abort', member.onAbort);
  }

  #abort(key: string, batch: Batch<Route, Item>, member: Member<Item>): void {
    if (!batch.sent) {
      batch.members.delete(member);
      batch.items -= member.items.length;
      batch.bytes -= member.bytes;
      this.#release(member);
      if (batch.members.size === 0) this.#dispatch(key, batch);
    }
    member.reject(
      new EnqueueError(RetCode.SYS, 'enqueue aborted by the caller', {
        code: 'ABORTED',
        outcome_unknown: batch.sent,
        cause: member.signal?.reason,
      }),
    );
  }
}
