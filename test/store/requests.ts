import { encode, type Init, type QItem } from '../../src/ts/protocol/messages.js';
import { checkAddPortably } from '../../src/ts/store/add_check.js';
import type { StoreView } from '../../src/ts/store/store_view.js';

export const TOPIC_ID = 1000;
export const STORE_ID = 1;
export const NO_CURSOR = 0xffff_ffff_ffff_ffffn;
export const ALL_GROUPS = 0xffff_ffff_ffff_ffffn;

/** A store of topic 1000 that takes every queue from 0 to 9 and knows three replicas. */
export function testView(changes: Partial<StoreView> = {}): StoreView {
  return {
    topic_id: TOPIC_ID,
    store_id: STORE_ID,
    items_byte_size_limit: 2_097_152,
    items_max: 10_000,
    get_loop_max_time_ms: 20,
    isValidQueue: (queue_id) => queue_id >= 0 && queue_id <= 9,
    groupsOf: () => [1],
    addressOf: ({ id, host, paxos_port }) => (id > 3 ? null : { ip: host, port: 5000 + 100 * id, paxos_port }),
    skips: () => false,
    ...changes,
  };
}

/** How Adds are checked and taken where a test says nothing else. */
export const test_add_settings = { checkAdd: checkAddPortably, hasSpace: () => true };

/** The replicas that `testView` knows. */
export const test_replicas = [1, 2, 3].map((id) => ({ id, host: '127.0.0.1', paxos_port: 5001 + 100 * id }));

/** An item as a producer sends it. */
export function testItem(text: string, changes: Init<QItem> = {}): Init<QItem> {
  const atime = 1_700_000_000n;
  return {
    buffer: Buffer.from(text),
    buffer_type: 0,
    consumer_group_ids: ALL_GROUPS,
    pub_id: 1,
    atime,
    atime_ms: 5,
    count: 0,
    sys_cookies: {},
    cursor_id: NO_CURSOR,
    meta: { topic_id: TOPIC_ID, handle_id: 2, uin: 7n, consumer_group_ids: ALL_GROUPS, pub_id: 1, atime, atime_ms: 5 },
    ...changes,
  };
}

/** Body of an Add. */
export function addBody(queue_id: number, items: readonly Init<QItem>[], topic_id = TOPIC_ID): Uint8Array {
  return encode('AddRequest', { topic_id, store_id: STORE_ID, queue_id, items });
}
