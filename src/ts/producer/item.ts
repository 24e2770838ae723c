import type { TopicConfig } from '../config/topic.js';
import { itemHash } from '../protocol/hash.js';
import { encode } from '../protocol/messages.js';
import { RetCode } from '../protocol/ret_code.js';
import { EnqueueError } from './enqueue_error.js';
import type { Outgoing } from './sender.js';

const UINT64_MAX = 0xffff_ffff_ffff_ffffn;
const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;
/** How long a client_id may be, in characters. */
const CLIENT_ID_CHARACTERS_MAX = 1_024;

/** An item as an application hands it in. */
export interface EnqueueItem {
  /** May be left out if the producer was made for one topic. */
  readonly topic_id?: number;
  /** Selects the queues, and the groups that get the item. */
  readonly pub_id: number;
  /** Selects the handler in the consumer. */
  readonly handle_id: number;
  /** The ordering key: items with the same one are handled in order, one after the other. 0 or left out: no order. */
  readonly uin?: bigint | number;
  /** The content. Text is sent as UTF-8. The bytes may be reused as soon as the call has returned its promise. */
  readonly buffer: Uint8Array | string;
  /** Which of the pub's groups get the item; all of them if left out. */
  readonly consumer_group_ids?: readonly number[];
  /** A text for log lines. */
  readonly client_id?: string;
}

/** Checks an item and encodes it as a QItem. Throws EnqueueError, whose message names the field that is wrong. */
export function outgoing(item: EnqueueItem, topic: TopicConfig, now_ms: number): Outgoing {
  const { pub_id, handle_id, client_id = '' } = item;
  const { topic_id } = topic.topic;
  const uin = checkUin(item.uin ?? 0n);
  if (!Number.isInteger(handle_id) || handle_id < INT32_MIN || handle_id > INT32_MAX) {
    throw wrong('handle_id', 'a 32-bit integer', handle_id);
  }
  if (client_id.length > CLIENT_ID_CHARACTERS_MAX) {
    throw wrong('client_id', `a text of at most ${CLIENT_ID_CHARACTERS_MAX} characters`, client_id.length);
  }
  const buffer = typeof item.buffer === 'string' ? Buffer.from(item.buffer, 'utf8') : item.buffer;
  if (!(buffer instanceof Uint8Array)) throw wrong('buffer', 'bytes or a text', typeof buffer);
  const consumer_group_ids = groupMask(item, topic);
  const atime = BigInt(Math.floor(now_ms / 1000));
  const atime_ms = now_ms % 1000;
  const bytes = encode('QItem', {
    buffer,
    buffer_type: 0,
    consumer_group_ids,
    pub_id,
    atime,
    atime_ms,
    count: 0,
    sys_cookies: {},
    cursor_id: UINT64_MAX,
    meta: {
      topic_id,
      handle_id,
      uin,
      consumer_group_ids,
      pub_id,
      hash: itemHash(buffer, uin, now_ms),
      atime,
      atime_ms,
      client_id,
      user_cookies: {},
    },
  });
  return { pub_id, count: 0, uin, bytes };
}

function checkUin(uin: bigint | number): bigint {
  if (typeof uin === 'number' && !Number.isSafeInteger(uin)) throw wrong('uin', 'a safe integer or a bigint', uin);
  const value = BigInt(uin);
  if (value < 0n || value > UINT64_MAX) throw wrong('uin', 'from 0 to 2^64-1', value);
  return value;
}

/** Bit id-1 for each group; all bits if the item does not choose. A group that would never get the item is refused. */
function groupMask({ consumer_group_ids, pub_id }: EnqueueItem, topic: TopicConfig): bigint {
  const pub = topic.pub(pub_id);
  if (pub === undefined) {
    throw new EnqueueError(RetCode.RANGE_PUB, `topic ${topic.topic.topic_id} has no pub ${pub_id}`);
  }
  if (consumer_group_ids === undefined) return UINT64_MAX;
  if (consumer_group_ids.length === 0) {
    throw new EnqueueError(RetCode.RANGE_CONSUMER_GROUP, 'consumer_group_ids is empty: nobody would get the item');
  }
  let mask = 0n;
  for (const group of consumer_group_ids) {
    if (!pub.consumer_group_ids.includes(group)) {
      throw new EnqueueError(RetCode.RANGE_CONSUMER_GROUP, `consumer group ${group} does not consume pub ${pub_id}`);
    }
    mask |= 1n << BigInt(group - 1);
  }
  return mask;
}

function wrong(field: string, expected: string, given: unknown): EnqueueError {
  return new EnqueueError(RetCode.ARG, `${field} must be ${expected}, not ${String(given)}`);
}
