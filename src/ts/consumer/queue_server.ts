import type { TopicFiles } from '../config/global_config.js';
import { Sender } from '../producer/sender.js';
import { StoreClient } from '../producer/store_client.js';
import { RetCode } from '../protocol/ret_code.js';
import { RpcClient } from '../rpc/client.js';
import { MasterClient } from '../rpc/master_client.js';
import type { AssignedQueue, Log } from './assigned_queue.js';
import { DeadLetterFile } from './dead_letter_file.js';
import type { Handlers } from './handler.js';
import { ItemHandling } from './item_handling.js';
import { Lanes } from './lanes.js';
import { PullLoop } from './pull_loop.js';
import { Retry } from './retry.js';
import type { Tally } from './tally.js';

/**
 * How long failed items wait for a queue to have a master again before the hand-over is tried anew, in milliseconds.
 */
const FAILOVER_WAIT_MS = 5_000;

export interface QueueServerOptions {
  readonly files: TopicFiles;
  readonly queues: readonly AssignedQueue[];
  readonly handlers: Handlers;
  readonly dead_letter_path: string;
  /** How many handlers of one queue run at the same time. */
  readonly handlers_concurrent_max: number;
  readonly tally: Tally;
  readonly log: Log;
}

/** Serves queues in this process: one pull loop each, with connections, handlers and retries in common. */
export class QueueServer {
  readonly #client = new RpcClient();
  readonly #loops: readonly PullLoop[];

  /** Begins to serve at once. */
  constructor({ files, queues, handlers, dead_letter_path, handlers_concurrent_max, tally, log }: QueueServerOptions) {
    const store_client = new StoreClient(new MasterClient(this.#client));
    const sender = new Sender(files, store_client, {
      failover_wait_ms: FAILOVER_WAIT_MS,
      // An item that comes twice is better than one that is missing.
      retry_unknown: true,
      batching: false,
    });
    const retry = new Retry(files, sender, new DeadLetterFile(dead_letter_path), tally, log);
    const handling = new ItemHandling(handlers, tally, log);
    const { topic_id } = files.info;
    const addrs = new Map(files.stores.map((store) => [store.store_id, store.addrs]));
    this.#loops = queues.map(
      (queue) =>
        new PullLoop(queue, {
          topic: files.topic,
          get: (request, signal) => {
            const { store_id, queue_id } = queue;
            const replicas = addrs.get(store_id);
            if (replicas === undefined) return Promise.resolve({ ret: RetCode.RANGE_STORE, response: undefined });
            return store_client.get({ topic_id, store_id, queue_id, addrs: replicas }, request, signal);
          },
          handle: (item, signal) => handling.handle(item, queue, signal),
          retry: (items, signal) => retry.handOver(items, queue, signal),
          observeLag: (lag_ms) => tally.lag(queue, lag_ms),
          lanes: new Lanes(handlers_concurrent_max),
          log,
        }),
    );
    for (const loop of this.#loops) loop.start();
  }

  /**
   * Fetches no more, lets running handlers finish for `grace_ms` milliseconds at most, acknowledges what is finished,
   * and closes the connections.
   */
  async stop(grace_ms: number): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop(grace_ms)));
    await this.#client.close();
  }
}
