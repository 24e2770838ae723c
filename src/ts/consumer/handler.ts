/**
 * What a handler says of an item. OK and IGNORE: it is done with. ERROR, like a thrown error: it is enqueued again into
 * the next place of its pub's retry chain.
 */
export type HandlerResult = 'OK' | 'IGNORE' | 'ERROR';

/** An item as a handler gets it. Fields have the names that they have on the wire. */
export interface ConsumedItem {
  readonly topic_id: number;
  readonly handle_id: number;
  readonly pub_id: number;
  /** The ordering key; 0n means none. */
  readonly uin: bigint;
  readonly buffer: Uint8Array;
  /** 0 unless the producer says that it encoded the buffer in a way of its own. */
  readonly buffer_type: number;
  readonly client_id: string;
  /** How often the item was enqueued again before this delivery. */
  readonly count: number;
  /** The item's place in its queue. */
  readonly cursor_id: bigint;
  /** When the producer enqueued it, in milliseconds since 1970 by the producer's clock. */
  readonly enqueued_at_ms: number;
}

/** Where and how an item is delivered. */
export interface HandlerContext {
  readonly topic_id: number;
  readonly consumer_group_id: number;
  readonly store_id: number;
  readonly queue_id: number;
  /** 1 for the first delivery along the retry chain, 2 for the first retry, and so on. */
  readonly attempt: number;
  /** Fires when the consumer stops and will not wait for the handler any longer. */
  readonly signal: AbortSignal;
  /** Writes a line to the consumer's log. */
  readonly log: (line: string) => void;
  /** Replaces the item's bytes for its retries. */
  readonly updateBuffer: (buffer: Uint8Array) => void;
}

/** Handles one item. Items with the same `uin` come one after the other, others at the same time. */
export type Handler = (item: ConsumedItem, context: HandlerContext) => Promise<HandlerResult>;

/** Handlers by handle_id. */
export type Handlers = Readonly<Record<number, Handler>>;
