import test from 'ava';
import fc from 'fast-check';
import { PhxError } from '../../src/ts/errors.js';
import { scanAddRequest, scanItem } from '../../src/ts/protocol/add_request.js';
import { decode, encode } from '../../src/ts/protocol/messages.js';
import { capturedExchanges } from '../fixtures/wire.js';
import { damaged, item_bytes, request_bytes } from './arbitrary_adds.js';

function attempt<T>(run: () => T): T | null {
  try {
    return run();
  } catch (error) {
    if (error instanceof PhxError && error.code === 'PROTOBUF_PARSE') return null;
    throw error;
  }
}

/** What `scanItem` has to say, from a whole decoding. */
function fieldsOf(bytes: Uint8Array) {
  const { meta: sent, consumer_group_ids, pub_id, atime, atime_ms, count } = decode('QItem', bytes);
  const ids = { topic_id: sent?.topic_id ?? 0, uin: sent?.uin ?? 0n, handle_id: sent?.handle_id ?? 0 };
  return { ...ids, pub_id, consumer_group_ids, atime: Number(atime), atime_ms, count };
}

test('a captured Add is scanned', (t) => {
  const body = capturedExchanges().find(({ uri, result }) => uri.endsWith('/Add') && result === 0)?.request_body;
  const scan = scanAddRequest(body ?? Buffer.alloc(0));
  t.deepEqual(scan, { topic_id: 1000, store_id: 1, queue_id: 0, items: [{ start: 10, end: 112 }] });
  t.deepEqual(scanItem(body?.subarray(10, 112) ?? Buffer.alloc(0)), {
    topic_id: 1000,
    pub_id: 1,
    uin: 0n,
    handle_id: 2,
    consumer_group_ids: 2n ** 64n - 1n,
    atime: 1795478953,
    atime_ms: 461,
    count: 0,
    cursor_start: 44,
    cursor_end: 56,
  });
});

test('a scan reads what a decoder reads', (t) => {
  fc.assert(
    fc.property(request_bytes, (body) => {
      const decoded = decode('AddRequest', body);
      const { items, ...destination } = scanAddRequest(body);
      const { topic_id, store_id, queue_id } = decoded;
      t.deepEqual(destination, { topic_id, store_id, queue_id });
      t.is(items.length, decoded.items.length);
      for (const { start, end } of items) {
        const { cursor_start, cursor_end, ...fields } = scanItem(body.subarray(start, end));
        t.deepEqual(fields, fieldsOf(body.subarray(start, end)));
        t.true(cursor_start <= cursor_end && cursor_end <= end - start);
      }
    }),
  );
});

test('damaged items: what a scan accepts a decoder accepts, with the same values', (t) => {
  let accepted = 0;
  fc.assert(
    fc.property(damaged(item_bytes), (bytes) => {
      const scan = attempt(() => scanItem(bytes));
      if (scan === null) return;
      accepted += 1;
      const { cursor_start, cursor_end, ...fields } = scan;
      t.deepEqual(fields, fieldsOf(bytes));
      t.true(cursor_start <= cursor_end && cursor_end <= bytes.length);
    }),
    { numRuns: 3000 },
  );
  t.true(accepted > 300, `${accepted} accepted`);
});

test('damaged requests: what a scan accepts, items included, a decoder accepts; what it refuses is refused', (t) => {
  fc.assert(
    fc.property(damaged(request_bytes), (body) => {
      const scan = attempt(() => {
        const found = scanAddRequest(body);
        for (const { start, end } of found.items) scanItem(body.subarray(start, end));
        return found;
      });
      const decoded = attempt(() => decode('AddRequest', body));
      t.is(scan?.items.length, decoded?.items.length);
      t.is(scan?.queue_id, decoded?.queue_id);
    }),
    { numRuns: 3000 },
  );
});

test('the cursor_id is found where it stands, the last one if there are two', (t) => {
  const first = encode('QItem', { cursor_id: 1n });
  const second = encode('QItem', { cursor_id: 300n });
  const between = encode('QItem', { buffer: Buffer.from('x') });
  const scan = scanItem(Buffer.concat([first, between, second, between]));
  const start = first.length + between.length;
  t.like(scan, { cursor_start: start, cursor_end: start + second.length });
  t.like(scanItem(between), { cursor_start: between.length, cursor_end: between.length });
});

test('a meta in two parts is one', (t) => {
  const bytes = Buffer.concat([
    encode('QItem', { meta: { topic_id: 1, uin: 5n } }),
    encode('QItem', { meta: { topic_id: 2 } }),
  ]);
  t.like(scanItem(bytes), { topic_id: 2, uin: 5n });
});

test('a known field with another wire type is an unknown field', (t) => {
  const fixed_pub_id = Buffer.from('4d01000000', 'hex');
  t.is(scanItem(fixed_pub_id).pub_id, 0);
  t.is(decode('QItem', fixed_pub_id).pub_id, 0);
});

test('groups are skipped, also within each other', (t) => {
  const nested = Buffer.from('fb3e fb3e 0801 fc3e fc3e 4805'.replaceAll(' ', ''), 'hex');
  t.is(scanItem(nested).pub_id, 5);
});

for (const [what, hex] of [
  ['varint that ends too soon', '48ff'],
  ['varint of eleven bytes', '48ffffffffffffffffffff01'],
  ['tag of more than 32 bits', 'ffffffffff01'],
  ['field number 0', '0001'],
  ['wire type 6', '0e'],
  ['wire type 7', '0f'],
  ['length beyond the end', '3205616263'],
  ['length of 2^32', '328080808010'],
  ['length of 2^63', '3280808080808080808001'],
  ['fixed32 cut off', '0d0000'],
  ['fixed64 cut off', '0900000000'],
  ['end of a group that was not begun', 'fc3e'],
  ['group without an end', 'fb3e0801'],
  ['group that another one ends', 'fb3e843f'],
  ['cookies with a damaged cookie', 'f203040a020aff'],
  ['meta with a damaged cookie', 'ca0c06ea03030a010a'],
  ['meta longer than the item', 'ca0c0510e807'],
] as const) {
  test(`refused: ${what}`, (t) => {
    const bytes = Buffer.from(hex, 'hex');
    t.throws(() => scanItem(bytes), { instanceOf: PhxError, code: 'PROTOBUF_PARSE' });
    t.throws(() => decode('QItem', bytes), { code: 'PROTOBUF_PARSE' });
  });
}

test('groups within groups without end do not exhaust the stack', (t) => {
  const bytes = Buffer.from('fb3e'.repeat(100_000), 'hex');
  t.throws(() => scanItem(bytes), { code: 'PROTOBUF_PARSE' });
});

test('a negative id takes ten bytes and comes out negative', (t) => {
  const body = encode('AddRequest', { topic_id: -1, store_id: -(2 ** 31) });
  t.is(body.length, 22);
  t.like(scanAddRequest(body), { topic_id: -1, store_id: -(2 ** 31), queue_id: 0 });
});
