import type { QItem } from '../protocol/messages.js';
import { RetCode } from '../protocol/ret_code.js';
import { type AssignedQueue, type Log, queueKey } from './assigned_queue.js';
import type { ConsumedItem, HandlerResult, Handlers } from './handler.js';
import type { Tally } from './tally.js';

const RESULTS: readonly unknown[] = ['OK', 'IGNORE', 'ERROR'] satisfies HandlerResult[];

/** Finds the handler of an item and calls it. */
export class ItemHandling {
  readonly #handlers: Handlers;
  readonly #tally: Tally;
  readonly #log: Log;

  constructor(handlers: Handlers, tally: Tally, log: Log) {
    this.#handlers = handlers;
    this.#tally = tally;
    this.#log = log;
  }

  /**
   * Handles one item. A handler that throws, one that returns something else than a result, and a missing one count as
   * ERROR. Never rejects. Bytes that the handler wants its retries to have are put into `item`.
   */
  async handle(item: QItem, queue: AssignedQueue, signal: AbortSignal): Promise<HandlerResult> {
    let result: HandlerResult;
    try {
      result = await this.#call(item, queue, signal);
    } catch (cause) {
      result = 'ERROR';
      this.#complain(item, queue, cause instanceof Error ? (cause.stack ?? cause.message) : String(cause));
    }
    this.#tally.count('handled');
    if (result === 'ERROR') this.#tally.count('errors');
    return result;
  }

  async #call(item: QItem, queue: AssignedQueue, signal: AbortSignal): Promise<HandlerResult> {
    const consumed = consumedItem(item);
    const handler = this.#handlers[consumed.handle_id];
    if (handler === undefined) {
      this.#complain(item, queue, `no handler for handle_id ${consumed.handle_id} (${RetCode.RANGE_HANDLE})`);
      return 'ERROR';
    }
    const result: unknown = await handler(consumed, {
      topic_id: consumed.topic_id,
      ...queue,
      attempt: item.count + 1,
      signal,
      log: (line) => this.#log('info', line),
      updateBuffer: (buffer) => {
        item.buffer = buffer;
      },
    });
    if (isResult(result)) return result;
    this.#complain(item, queue, `the handler returned ${String(result)} instead of OK, IGNORE or ERROR`);
    return 'ERROR';
  }

  #complain(item: QItem, queue: AssignedQueue, reason: string): void {
    const { handle_id, uin } = consumedItem(item);
    const name = `handle_id ${handle_id} uin ${uin} pub_id ${item.pub_id} count ${item.count}`;
    this.#log('error', `item ${item.cursor_id} of queue ${queueKey(queue)}, ${name}, failed: ${reason}`);
  }
}

function isResult(value: unknown): value is HandlerResult {
  return RESULTS.includes(value);
}

function consumedItem({ meta, buffer, buffer_type, pub_id, count, cursor_id, ...item }: QItem): ConsumedItem {
  return {
    topic_id: meta?.topic_id ?? 0,
    handle_id: meta?.handle_id ?? 0,
    pub_id,
    uin: meta?.uin ?? 0n,
    buffer,
    buffer_type,
    client_id: meta?.client_id ?? '',
    count,
    cursor_id,
    enqueued_at_ms: meta === undefined ? atimeMs(item) : atimeMs(meta),
  };
}

/** The time of an item or a meta, in milliseconds since 1970. */
export function atimeMs({ atime, atime_ms }: Pick<QItem, 'atime' | 'atime_ms'>): number {
  return Number(atime) * 1000 + atime_ms;
}
