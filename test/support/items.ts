import type { QItem } from '../../src/ts/protocol/messages.js';
import { TOPIC_ID } from './deployment.js';
import { CURSOR_NONE } from './fake_store.js';

/** An item of pub 1 for handler 1, enqueued now. */
export function queueItem(text: string, uin = 0n, more: Partial<QItem> = {}): QItem {
  const now_s = BigInt(Math.floor(Date.now() / 1000));
  const same = { consumer_group_ids: CURSOR_NONE, pub_id: 1, atime: now_s, atime_ms: 0 };
  return {
    ...same,
    buffer: Buffer.from(text),
    buffer_type: 0,
    count: 0,
    sys_cookies: undefined,
    cursor_id: CURSOR_NONE,
    meta: { ...same, topic_id: TOPIC_ID, handle_id: 1, uin, hash: 0n, client_id: '', user_cookies: undefined },
    ...more,
  };
}
