/** Add bodies as the producer encodes them. */
import { addBody } from '../../src/ts/producer/add_body.js';
import { itemHash } from '../../src/ts/protocol/hash.js';
import { encode } from '../../src/ts/protocol/messages.js';

export const TOPIC_ID = 1000;
const ALL_GROUPS = 0xffff_ffff_ffff_ffffn;
const NOW_MS = 1_800_000_000_123;
const TARGET = { ip: '127.0.0.1', port: 5100, paxos_port: 5200 };

/** `count` bodies of `items` items with `bytes` bytes of content each; no two are alike. */
export function makeAddBodies(count: number, items: number, bytes: number): Uint8Array[] {
  return Array.from({ length: count }, (_, number) => {
    const encoded = Array.from({ length: items }, (_, at) => encodeItem(Buffer.alloc(bytes, 97 + (at % 26)), number));
    return addBody({ topic_id: TOPIC_ID, store_id: 1, queue_id: number }, encoded)(TARGET);
  });
}

/** As `outgoing` in src/ts/producer/item.ts does it. */
function encodeItem(buffer: Uint8Array, number: number): Uint8Array {
  const uin = BigInt(100_000 + number);
  const atime = BigInt(Math.floor(NOW_MS / 1000));
  const atime_ms = NOW_MS % 1000;
  const hash = itemHash(buffer, uin, NOW_MS);
  const common = { consumer_group_ids: ALL_GROUPS, pub_id: 1, atime, atime_ms };
  const meta = { ...common, topic_id: TOPIC_ID, handle_id: 1, uin, hash, client_id: '', user_cookies: {} };
  return encode('QItem', {
    ...common,
    buffer,
    buffer_type: 0,
    count: 0,
    sys_cookies: {},
    cursor_id: ALL_GROUPS,
    meta,
  });
}
