import test from 'ava';
import fc from 'fast-check';
import { decode, encode, type MessageName } from '../../src/ts/protocol/messages.js';
import { capturedExchanges, type Exchange } from '../fixtures/wire.js';

const u64_max = 2n ** 64n - 1n;

function exchange(uri_end: string, matches: (exchange: Exchange) => boolean = () => true): Exchange {
  const found = capturedExchanges().find((each) => each.uri.endsWith(uri_end) && matches(each));
  if (found === undefined) throw new Error(`no captured ${uri_end}`);
  return found;
}

/** The names of the messages of a method. */
function messagesOf(uri: string): { request: MessageName; response: MessageName } {
  switch (uri.slice(uri.lastIndexOf('/') + 1)) {
    case 'Add':
      return { request: 'AddRequest', response: 'AddResponse' };
    case 'Get':
      return { request: 'GetRequest', response: 'GetResponse' };
    case 'GetAddrScale':
      return { request: 'GetAddrScaleRequest', response: 'GetAddrScaleResponse' };
    case 'GetString':
      return { request: 'GetStringRequest', response: 'GetStringResponse' };
    case 'SetString':
      return { request: 'SetStringRequest', response: 'SetStringResponse' };
    case 'DeleteString':
      return { request: 'DeleteStringRequest', response: 'DeleteStringResponse' };
    case 'GetLockInfo':
      return { request: 'GetLockInfoRequest', response: 'GetLockInfoResponse' };
    case 'AcquireLock':
      return { request: 'AcquireLockRequest', response: 'AcquireLockResponse' };
    default:
      return { request: 'StringValue', response: 'StringValue' };
  }
}

test('every captured message is decoded, and what is encoded from it means the same', (t) => {
  const exchanges = capturedExchanges();
  t.is(exchanges.length, 20);
  for (const { uri, request_body, response_body } of exchanges) {
    const { request, response } = messagesOf(uri);
    for (const [name, body] of [[request, request_body] as const, [response, response_body] as const]) {
      const message = decode(name, body);
      t.deepEqual(decode(name, encode(name, message)), message, `${name} of ${uri}`);
    }
  }
});

test('an Add of the original is encoded to the same bytes', (t) => {
  const { request_body } = exchange('/Add', ({ result }) => result === 0);
  const { items, master_addr } = decode('AddRequest', request_body);
  const [item] = items;
  t.like(item, { buffer_type: 0, pub_id: 1, atime: 1795478953n, atime_ms: 461, count: 0, cursor_id: u64_max });
  t.deepEqual(item?.buffer, Buffer.from('j4rVvemKLW'));
  t.like(item?.meta, { topic_id: 1000, handle_id: 2, uin: 0n, pub_id: 1, consumer_group_ids: u64_max, client_id: '' });
  const again = encode('AddRequest', { topic_id: 1000, store_id: 1, queue_id: 0, items, master_addr });
  t.is(Buffer.from(again).toString('hex'), request_body.toString('hex'));
});

test('a Get of the original is encoded to the same bytes', (t) => {
  const { request_body } = exchange('/Get');
  const bytes = encode('GetRequest', {
    topic_id: 1000,
    store_id: 1,
    queue_id: 0,
    limit: 100,
    consumer_group_id: 1,
    prev_cursor_id: 192n,
    next_cursor_id: 192n,
    master_addr: { ip: '127.0.0.1', port: 5100, paxos_port: 5101 },
  });
  t.is(Buffer.from(bytes).toString('hex'), request_body.toString('hex'));
});

test('answers of the original are encoded to the same bytes', (t) => {
  const got = exchange('/Get', ({ response_body }) => response_body.length > 20).response_body;
  t.deepEqual(encode('GetResponse', { ...decode('GetResponse', got), redirect_addr: {} }), got);
  const redirected = exchange('/Add', ({ result }) => result === 10102).response_body;
  const { redirect_addr } = decode('AddResponse', redirected);
  t.deepEqual(encode('AddResponse', { redirect_addr }), redirected);
  t.deepEqual(Buffer.from(encode('AddResponse', { redirect_addr: {} })).toString('hex'), 'aa0600');
  const scales = exchange('/GetAddrScale').response_body;
  const { addr_scales } = decode('GetAddrScaleResponse', scales);
  t.deepEqual(encode('GetAddrScaleResponse', { addr_scales }), scales);
  t.deepEqual(
    addr_scales.map(({ addr, scale }) => [addr?.port, scale]),
    [
      [8001, 1000],
      [8002, 1000],
      [8003, 1000],
    ],
  );
});

test('a lock answer has neither key nor a lock where there is none', (t) => {
  const found = decode('GetLockInfoResponse', exchange('/GetLockInfo', ({ result }) => result === 0).response_body);
  t.deepEqual(found.lock_info, { lock_key: '', version: 75n, client_id: 'cli-A', lease_time_ms: 60000n });
  const missing = decode('GetLockInfoResponse', exchange('/GetLockInfo', ({ result }) => result > 10103).response_body);
  t.is(missing.lock_info, undefined);
  t.deepEqual(missing.redirect_addr, { ip: '', port: 0, paxos_port: 0 });
});

test('a decoded message has every scalar, a sub-message only if it was sent', (t) => {
  t.deepEqual(decode('GetRequest', new Uint8Array()), {
    topic_id: 0,
    store_id: 0,
    queue_id: 0,
    limit: 0,
    atime: 0n,
    consumer_group_id: 0,
    atime_ms: 0,
    prev_cursor_id: 0n,
    next_cursor_id: 0n,
    random: false,
    master_addr: undefined,
  });
  t.deepEqual(decode('GetResponse', new Uint8Array()).items, []);
  const context = decode('ConsumerContext', new Uint8Array());
  t.like(context, { store_id: -1, queue_id: -1, consumer_group_id: -1, prev_cursor_id: u64_max });
});

test('an encoded message has what was given, zeros too, and nothing else', (t) => {
  t.is(encode('GetRequest', {}).length, 0);
  t.is(encode('GetRequest', { topic_id: undefined }).length, 0);
  t.is(Buffer.from(encode('GetRequest', { topic_id: 0, atime: 0n, random: false })).toString('hex'), '08003000a80100');
});

test('a decoded message survives a structured clone', (t) => {
  const message = decode('AddRequest', exchange('/Add').request_body);
  t.is(structuredClone(message).items[0]?.cursor_id, u64_max);
});

test('uint64 and int32 keep all their bits', (t) => {
  const u64 = fc.bigInt({ min: 0n, max: u64_max });
  fc.assert(
    fc.property(u64, u64, fc.integer(), fc.uint8Array(), (cursor_id, uin, pub_id, buffer) => {
      const [item] = decode(
        'AddRequest',
        encode('AddRequest', { items: [{ cursor_id, pub_id, buffer, meta: { uin } }] }),
      ).items;
      t.is(item?.cursor_id, cursor_id);
      t.is(item?.meta?.uin, uin);
      t.is(item?.pub_id, pub_id);
      t.deepEqual([...(item?.buffer ?? [])], [...buffer]);
    }),
  );
});

test('a field that comes twice counts as the original counts it: the last scalar, sub-messages merged', (t) => {
  const bytes = Buffer.concat([
    encode('AddRequest', { topic_id: 1, master_addr: { ip: '10.0.0.1', port: 1 } }),
    encode('AddRequest', { topic_id: 2, master_addr: { port: 2 } }),
  ]);
  t.like(decode('AddRequest', bytes), { topic_id: 2, master_addr: { ip: '10.0.0.1', port: 2, paxos_port: 0 } });
});

test('unknown fields are skipped', (t) => {
  const unknown = Buffer.from('c2 3e 03 61 62 63'.replaceAll(' ', ''), 'hex');
  const bytes = Buffer.concat([unknown, encode('AddResponse', { cursor_id: 7n }), unknown]);
  t.is(decode('AddResponse', bytes).cursor_id, 7n);
});

test('what is not a message is an error', (t) => {
  for (const hex of ['ff', '0a', '9203ff', '08', '07', '00', '0affffffff0f', '0b']) {
    t.throws(() => decode('AddRequest', Buffer.from(hex, 'hex')), { code: 'PROTOBUF_PARSE' }, hex);
  }
});
