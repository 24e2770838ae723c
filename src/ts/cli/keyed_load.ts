import { setTimeout as delay } from 'node:timers/promises';
import { EnqueueError } from '../producer/enqueue_error.js';
import type { Producer } from '../producer/producer.js';
import { DeliveryLedger } from './delivery_ledger.js';

/** Wait before an item that failed is enqueued again, in milliseconds. */
const RETRY_AFTER_MS = 50;

const TOPIC_ID = 1000;
const PUB_ID = 1;
const ECHO_HANDLE_ID = 2;

export interface KeyedLoadOptions {
  readonly producer: Producer;
  readonly ledger: DeliveryLedger;
  /** How many keys; each has one item on its way at a time. */
  readonly keys: number;
  /** Least wait between two items of one key, in milliseconds; 0 for as fast as it goes. */
  readonly pause_ms: number;
}

/** What a load has seen so far. */
export interface LoadReport {
  readonly acknowledged: number;
  /** Tries that failed; each item was tried until it was acknowledged. */
  readonly failed_tries: number;
  /** Longest time without any acknowledgement, in milliseconds. */
  readonly longest_gap_ms: number;
}

/** Enqueues items of several keys at the same time, the items of one key strictly one after the other. */
export class KeyedLoad {
  readonly #options: KeyedLoadOptions;
  #acknowledged = 0;
  #failed_tries = 0;
  #longest_gap_ms = 0;
  #last_at_ms = performance.now();

  constructor(options: KeyedLoadOptions) {
    this.#options = options;
  }

  /** Runs until `items` more were acknowledged, or `signal` fires and what is on its way is acknowledged. */
  async run(items: number, signal?: AbortSignal): Promise<void> {
    let left = items;
    const take = (): boolean => {
      if (left === 0 || signal?.aborted === true) return false;
      left -= 1;
      return true;
    };
    this.#last_at_ms = performance.now();
    const keys = Array.from({ length: this.#options.keys }, (_, index) => index + 1);
    await Promise.all(keys.map((key) => this.#runKey(key, take)));
  }

  report(): LoadReport {
    return {
      acknowledged: this.#acknowledged,
      failed_tries: this.#failed_tries,
      longest_gap_ms: this.#longest_gap_ms,
    };
  }

  async #runKey(key: number, take: () => boolean): Promise<void> {
    const { ledger, pause_ms } = this.#options;
    while (take()) {
      await this.#enqueue(key, DeliveryLedger.payload(key, ledger.acknowledged(key) + 1));
      ledger.acknowledge(key);
      this.#acknowledged += 1;
      const now_ms = performance.now();
      this.#longest_gap_ms = Math.max(this.#longest_gap_ms, now_ms - this.#last_at_ms);
      this.#last_at_ms = now_ms;
      if (pause_ms > 0) await delay(pause_ms);
    }
  }

  /** At least once: an item whose fate is unknown is enqueued again. */
  async #enqueue(key: number, text: string): Promise<void> {
    const item = {
      topic_id: TOPIC_ID,
      pub_id: PUB_ID,
      handle_id: ECHO_HANDLE_ID,
      uin: BigInt(key),
      buffer: Buffer.from(text),
    };
    for (;;) {
      try {
        await this.#options.producer.enqueue(item);
        return;
      } catch (error) {
        if (!(error instanceof EnqueueError) || !(error.retryable || error.outcome_unknown)) throw error;
        this.#failed_tries += 1;
        await delay(RETRY_AFTER_MS);
      }
    }
  }
}
