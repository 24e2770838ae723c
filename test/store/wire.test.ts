import test, { type ExecutionContext } from 'ava';
import { decode, encode } from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { capturedExchanges } from '../fixtures/wire.js';
import { parseReply, RawConnection, type RawReply } from '../support/raw_connection.js';
import { ALL_GROUPS, addBody, NO_CURSOR, STORE_ID, TOPIC_ID, testItem } from './requests.js';
import { StoreCluster } from './store_fixture.js';

const prefix = '/phxqueue_phxrpc/store/';
/** A busy machine must not cost mastership here: nobody asks twice. */
const patient = { store_paxos_master_lease: 5_000 };

/** An exchange of unmodified C++ clients with C++ stores. */
function captured(method: string, result: number, body_bytes_min = 0): { request: Buffer; reply: RawReply } {
  const found = capturedExchanges().find(
    (exchange) =>
      exchange.uri === `${prefix}${method}` &&
      exchange.result === result &&
      exchange.response_body.length >= body_bytes_min,
  );
  const reply = found === undefined ? null : parseReply(found.response);
  if (found === undefined || reply === null) throw new Error(`no such exchange: ${method} ${result}`);
  return { request: found.request, reply };
}

function requestOf(method: string, body: Uint8Array): Buffer {
  const head = `POST ${prefix}${method} HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), body]);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function resultOf(reply: RawReply): string | undefined {
  return reply.headers.get('x-phxrpc-result');
}

/** As one store of the original answers: status 200, a result, a length that is that of the body. */
function assertReplies(t: ExecutionContext, reply: RawReply, expected: RawReply): void {
  t.regex(reply.status_line, /^HTTP\/1\.[01] 200 /);
  t.regex(expected.status_line, /^HTTP\/1\.[01] 200 /);
  t.is(resultOf(reply), resultOf(expected));
  t.is(reply.headers.get('content-length'), String(reply.body.length));
}

async function openMaster(cluster: StoreCluster): Promise<RawConnection> {
  const [address] = cluster.addresses;
  return RawConnection.open(address?.port ?? 0);
}

test('the captured Add and Get of a C++ client get the captured answers', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1, topic: patient });
  const connection = await openMaster(cluster);
  t.teardown(() => connection.close());

  const idle = captured('Get', 0);
  const before = await connection.exchange(idle.request);
  assertReplies(t, before, idle.reply);
  // The captured client resumes at cursor 192, where this store never was: it is told to start at the beginning.
  t.deepEqual(decode('GetResponse', before.body), {
    items: [],
    prev_cursor_id: NO_CURSOR,
    next_cursor_id: NO_CURSOR,
    redirect_addr: { ip: '', port: 0, paxos_port: 0 },
  });

  const add = captured('Add', 0);
  const added = await connection.exchange(add.request);
  assertReplies(t, added, add.reply);
  // The cursor is the number of the item; in the original, that of a Paxos instance.
  t.is(decode('AddResponse', added.body).cursor_id, 1n);
  t.is(added.body.toString('hex'), add.reply.body.toString('hex').replace('08f001', '0801'));

  const get = captured('Get', 0, 100);
  const got = await connection.exchange(get.request);
  assertReplies(t, got, get.reply);
  const { items } = decode('GetResponse', got.body);
  const [captured_item] = decode('GetResponse', get.reply.body).items;
  t.is(items.length, 1);
  t.deepEqual(items[0], captured_item && { ...captured_item, cursor_id: 1n });

  // The item, prev, next and redirect_addr stand in the captured order, the cursors apart byte for byte.
  const expected_hex = get.reply.body.toString('hex').replace('0a5e', '0a5d').replace('a806f001', 'a80601');
  t.is(got.body.toString('hex'), expected_hex.replace('58e70160f001', '58ffffffffffffffffff016001'));

  const acknowledge = { topic_id: TOPIC_ID, store_id: STORE_ID, queue_id: 0, limit: 100, consumer_group_id: 1 };
  const next = await connection.exchange(
    requestOf('Get', encode('GetRequest', { ...acknowledge, prev_cursor_id: 1n, next_cursor_id: 1n })),
  );
  t.is(next.body.toString('hex'), '58016001aa0600');
});

test('PHXEcho is answered as captured', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1, topic: patient });
  const connection = await openMaster(cluster);
  t.teardown(() => connection.close());
  const echo = captured('PHXEcho', 0);
  const reply = await connection.exchange(echo.request);
  assertReplies(t, reply, echo.reply);
  t.is(reply.body.toString('hex'), echo.reply.body.toString('hex'));
});

test('one connection takes request after request, in whatever pieces they come', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1, topic: patient });
  const connection = await openMaster(cluster);
  t.teardown(() => connection.close());
  const large = testItem('x'.repeat(5_000));
  for (let i = 1; i <= 20; i += 1) {
    const request = requestOf('Add', addBody(0, [large, large]));
    const step = i === 1 ? 100 : 1_024;
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < request.length; at += step) pieces.push(request.subarray(at, at + step));
    const reply = await connection.exchange(...pieces);
    t.is(resultOf(reply), '0');
    t.is(decode('AddResponse', reply.body).cursor_id, BigInt(2 * i - 1));
  }
});

test('a follower sends the client to the master, with the captured bytes', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3, topic: patient });
  const add = captured('Add', RetCode.NOT_MASTER);
  const replies = await Promise.all(
    cluster.addresses.map(async ({ port }) => {
      const connection = await RawConnection.open(port);
      const reply = await connection.exchange(add.request);
      connection.close();
      return reply;
    }),
  );
  const masters = cluster.addresses.filter((_, i) => replies[i] !== undefined && resultOf(replies[i]) === '0');
  t.is(masters.length, 1);
  const redirected = replies.filter((reply) => resultOf(reply) === '10102');
  t.is(redirected.length, 2);
  for (const reply of redirected) {
    assertReplies(t, reply, add.reply);
    t.deepEqual(decode('AddResponse', reply.body), { cursor_id: 0n, redirect_addr: masters[0] });
    // The captured addresses have shorter ports; all else is the same.
    t.is(hex(reply.body), hex(encode('AddResponse', { redirect_addr: masters[0] })));
  }
});

test('without a majority the answer is 10105, and the log says what that means', async (t) => {
  const cluster = await StoreCluster.prepare(t, { replicas: 3 });
  const store = await cluster.startOne(0);
  const connection = await openMaster(cluster);
  t.teardown(() => connection.close());
  for (const request of [requestOf('Add', addBody(0, [testItem('x')])), captured('Get', 0).request]) {
    const reply = await connection.exchange(request);
    t.is(resultOf(reply), '10105');
    t.is(reply.body.toString('hex'), 'aa0600');
  }
  t.false(store.ready().ok);
  t.true(store.health().ok);
  await cluster.until('the log names the reason', () =>
    cluster.lines.some((line) => line.includes('MASTERSTAT: ERR: Propose err. paxos_ret 404')),
  );
});

test('refusals carry a result and a length', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1, topic: { ...patient, items_byte_size_limit: 1_000 } });
  const connection = await openMaster(cluster);
  t.teardown(() => connection.close());
  const item = testItem('x');
  const cases: [string, Buffer, number][] = [
    ['no protobuf', requestOf('Add', Buffer.from('ffffff', 'hex')), -22],
    ['a malformed item', requestOf('Add', encodedWithBrokenItem()), -22],
    ['no GetRequest', requestOf('Get', Buffer.from('0a', 'hex')), -22],
    ['another topic', requestOf('Add', addBody(0, [item], TOPIC_ID + 1)), RetCode.RANGE_TOPIC],
    ['an unknown queue', requestOf('Add', addBody(4711, [item])), RetCode.RANGE_PUB],
    ['too many bytes', requestOf('Add', addBody(0, [testItem('x'.repeat(1_000))])), RetCode.SIZE_TOO_LARGE],
    ['nothing', requestOf('Add', addBody(0, [])), RetCode.OK],
  ];
  for (const [what, request, result] of cases) {
    const reply = await connection.exchange(request);
    t.is(resultOf(reply), String(result), what);
    t.regex(reply.status_line, /^HTTP\/1\.[01] 200 /, what);
  }
  const huge = await RawConnection.open(cluster.addresses[0]?.port ?? 0);
  t.teardown(() => huge.close());
  t.is(resultOf(await huge.exchange(requestOf('Add', addBody(0, [testItem('x'.repeat(200_000))])))), '10108');
  const unknown = await RawConnection.open(cluster.addresses[0]?.port ?? 0);
  t.teardown(() => unknown.close());
  const reply = await unknown.exchange(requestOf('Nothing', Buffer.alloc(0)));
  t.is(resultOf(reply), '-1');
  t.regex(reply.status_line, /^HTTP\/1\.[01] 404 /);
});

function encodedWithBrokenItem(): Buffer {
  const body = Buffer.from(addBody(0, [testItem('abc', { consumer_group_ids: ALL_GROUPS })]));
  body[body.length - 1] = 0xff;
  return body;
}
