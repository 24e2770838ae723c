/**
 * Looks through the body of an Add before it is proposed: the envelope, and every item in it. In the addon where there is
 * one, else in TypeScript; both give the same answers, and the addon takes about a tenth of the time (docs/performance.md).
 */
import { PhxError } from '../errors.js';
import { scanAddRequest, scanItem } from '../protocol/add_request.js';
import { loadNative } from '../wal/native_binding.js';

/** What an Add asks for, and what its items add up to. */
export interface AddCheck {
  readonly topic_id: number;
  readonly store_id: number;
  readonly queue_id: number;
  readonly items: number;
  readonly item_bytes: number;
  /** Items whose meta names another topic than `own_topic_id`; of no meaning where an item is malformed. */
  readonly strangers: number;
  /** Byte of the body at which the first malformed item begins, or null. */
  readonly malformed_at: number | null;
}

/** Throws PhxError PROTOBUF_PARSE if the envelope is malformed. */
export type AddChecker = (body: Uint8Array, own_topic_id: number) => AddCheck;

/** In TypeScript. */
export const checkAddPortably: AddChecker = (body, own_topic_id) => {
  const { items: ranges, ...destination } = scanAddRequest(body);
  let item_bytes = 0;
  let strangers = 0;
  let malformed_at: number | null = null;
  for (const { start, end } of ranges) {
    item_bytes += end - start;
    try {
      if (scanItem(body.subarray(start, end)).topic_id !== own_topic_id) strangers += 1;
    } catch (error) {
      if (!(error instanceof PhxError)) throw error;
      malformed_at ??= start;
    }
  }
  return { ...destination, items: ranges.length, item_bytes, strangers, malformed_at };
};

/** Numbers that the addon fills in: topic, store and queue, items, their bytes, strangers, where an item is malformed. */
const RESULT_FIELDS = 7;
const NONE = -1;

/** In the addon, null where there is none. */
export function nativeAddChecker(): AddChecker | null {
  const native = loadNative();
  if ('reason' in native) return null;
  const { scanAddRequestBody: scan } = native.binding;
  const result = new Int32Array(RESULT_FIELDS);
  return (body, own_topic_id) => {
    const malformed_envelope_at = scan(body, own_topic_id, result);
    if (malformed_envelope_at !== NONE) {
      throw new PhxError('PROTOBUF_PARSE', `malformed Add request at byte ${malformed_envelope_at}`);
    }
    const [topic_id = 0, store_id = 0, queue_id = 0, items = 0, item_bytes = 0, strangers = 0, malformed = NONE] =
      result;
    const malformed_at = malformed === NONE ? null : malformed;
    return { topic_id, store_id, queue_id, items, item_bytes, strangers, malformed_at };
  };
}
