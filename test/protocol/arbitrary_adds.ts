/** Add requests and items as fast-check makes them, and bytes that are nearly such. */
import fc from 'fast-check';
import { encode, type Init, type QItem } from '../../src/ts/protocol/messages.js';

const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(0n, 1n, 2n ** 32n, 2n ** 64n - 1n));
const u32 = fc.nat(2 ** 32 - 1);
const i32 = fc.integer();
const small_bytes = fc.uint8Array({ maxLength: 20 });
const rarely = { requiredKeys: [] as [] };
const cookies = fc.record({
  cookies: fc.array(fc.record({ key: fc.string(), val: small_bytes }, rarely), { maxLength: 2 }),
});
const meta = fc.record(
  { topic_id: i32, handle_id: i32, uin: u64, consumer_group_ids: u64, pub_id: i32, atime: u64, user_cookies: cookies },
  rarely,
);
const item: fc.Arbitrary<Init<QItem>> = fc.record(
  {
    ...{ buffer: small_bytes, buffer_type: i32, consumer_group_ids: u64, pub_id: i32, atime: u64, atime_ms: u32 },
    ...{ count: u32, sys_cookies: cookies, cursor_id: u64, meta },
  },
  rarely,
);
const request = fc.record(
  {
    ...{ topic_id: i32, store_id: i32, queue_id: i32, items: fc.array(item, { maxLength: 4 }) },
    master_addr: fc.constant({ ip: '127.0.0.1', port: 5100, paxos_port: 5101 }),
  },
  rarely,
);
export const item_bytes = item.map((each) => Buffer.from(encode('QItem', each)));
export const request_bytes = request.map((each) => Buffer.from(encode('AddRequest', each)));

/** Bytes that are wrong here and there. */
export function damaged(valid: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const cut = fc.tuple(valid, fc.nat(200)).map(([bytes, length]) => bytes.subarray(0, length));
  const flipped = fc.tuple(valid, fc.nat(200), fc.nat(255)).map(([bytes, at, byte]) => {
    if (at < bytes.length) bytes[at] = byte;
    return bytes;
  });
  const joined = fc.tuple(valid, small_bytes, valid).map((parts) => Buffer.concat(parts));
  return fc.oneof(
    cut,
    flipped,
    joined,
    small_bytes.map((bytes) => Buffer.from(bytes)),
  );
}
