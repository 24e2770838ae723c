/** What applications use: put items into queues, and take them out. */

export type { AssignedQueue, Log, LogLevel } from './consumer/assigned_queue.js';
export { Consumer, type ConsumerOptions } from './consumer/consumer.js';
export type { ConsumedItem, Handler, HandlerContext, HandlerResult, Handlers } from './consumer/handler.js';
export type { Counts, QueueLag, TallyReport } from './consumer/tally.js';
export { type ErrorCode, PhxError } from './errors.js';
export { EnqueueError } from './producer/enqueue_error.js';
export type { EnqueueItem } from './producer/item.js';
export { type EnqueueOptions, Producer, type ProducerOptions } from './producer/producer.js';
export type { Placement, SendResult } from './producer/sender.js';
export { RetCode, retCodeName } from './protocol/ret_code.js';
