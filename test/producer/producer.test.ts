import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { EnqueueError } from '../../src/ts/producer/enqueue_error.js';
import { Producer, type ProducerOptions } from '../../src/ts/producer/producer.js';
import { itemHash } from '../../src/ts/protocol/hash.js';
import { type Deployment, type DeploymentOptions, deploy, quickQueue } from '../support/deployment.js';
import { CURSOR_NONE } from '../support/fake_store.js';

interface Fixture extends Deployment {
  readonly producer: Producer;
}

async function start(
  t: ExecutionContext,
  options: Partial<ProducerOptions> = {},
  deployment: DeploymentOptions = {},
): Promise<Fixture> {
  const deployed = await deploy(t, deployment);
  const { global_config_path } = deployed;
  // A busy machine may need some time to connect even to itself.
  const producer = new Producer({ global_config_path, connect_timeout_ms: 5_000, ...options });
  t.teardown(() => producer.close());
  return { ...deployed, producer };
}

function item(text: string, uin = 5n) {
  return { pub_id: 1, handle_id: 2, uin, buffer: text };
}

async function failure(t: ExecutionContext, promise: Promise<unknown>): Promise<EnqueueError> {
  const error = await t.throwsAsync(promise, { instanceOf: EnqueueError });
  if (error === undefined) throw new Error('it did not fail');
  return error;
}

test('an item arrives with all the fields that the C++ producer writes', async (t) => {
  const { producer, store } = await start(t);
  const before_ms = Date.now();
  const placement = await producer.enqueue({ ...item('hello', 123n), client_id: 'me' });
  t.deepEqual(placement, { store_id: 1, queue_id: 0, cursor: 1n });
  const request = store.adds.at(-1)?.request;
  const [added] = request?.items ?? [];
  const now_ms = Number(added?.atime) * 1000 + (added?.atime_ms ?? 0);
  t.true(now_ms >= before_ms && now_ms <= Date.now());
  const same = { consumer_group_ids: CURSOR_NONE, pub_id: 1, atime: added?.atime, atime_ms: added?.atime_ms };
  t.like(added, {
    ...same,
    buffer_type: 0,
    count: 0,
    cursor_id: CURSOR_NONE,
    sys_cookies: { cookies: [] },
    meta: {
      ...same,
      topic_id: 1000,
      handle_id: 2,
      uin: 123n,
      client_id: 'me',
      hash: itemHash(Buffer.from('hello'), 123n, now_ms),
      user_cookies: { cookies: [] },
    },
  });
  t.deepEqual(store.texts(0), ['hello']);
  t.like(request, { topic_id: 1000, store_id: 1, queue_id: 0, master_addr: store.addrs[0] });
});

test('the groups of an item become bits', async (t) => {
  const pubs = [{ pub_id: 1, queue_info_ids: [1], consumer_group_ids: [1, 3, 64] }];
  const consumer_groups = [1, 3, 64].map((consumer_group_id) => ({ consumer_group_id }));
  const { producer, store } = await start(t, {}, { pubs, consumer_groups });
  await producer.enqueue({ ...item('a'), consumer_group_ids: [1, 64] });
  t.is(store.items(0)[0]?.consumer_group_ids, (1n << 63n) | 1n);
});

test('a request that reaches another replica follows to the master, and later ones go there at once', async (t) => {
  const { producer, store } = await start(t);
  store.master = 2;
  await producer.enqueue(item('a'));
  const tries = store.adds.length;
  await producer.enqueue(item('b'));
  t.is(store.adds.length, tries + 1);
  t.is(store.adds.at(-1)?.replica, 2);
  store.master = 1;
  await producer.enqueue(item('c'));
  t.deepEqual(store.texts(0), ['a', 'b', 'c']);
});

test('a queue without a master is waited for', async (t) => {
  const { producer, store } = await start(t);
  store.master = null;
  const enqueued = producer.enqueue(item('a'));
  await store.until(() => store.adds.length >= 6, 'two rounds of tries');
  store.master = 1;
  await enqueued;
  t.deepEqual(store.texts(0), ['a']);
});

test('replicas that cannot be reached are waited for, and then it is certain that nothing was enqueued', async (t) => {
  const { producer, store } = await start(t, { failover_wait_ms: 50 });
  await store.stop();
  const error = await failure(t, producer.enqueue(item('a')));
  t.is(error.code, 'RPC_CONNECT');
  t.true(error.retryable);
  t.false(error.outcome_unknown);
});

test('without a wait, no master is an error at once', async (t) => {
  const { producer, store } = await start(t, { failover_wait_ms: 0 });
  store.master = null;
  const error = await failure(t, producer.enqueue(item('a')));
  t.like(error, { code: 'NO_MASTER', ret: 10105, outcome_unknown: false, retryable: true });
  t.is(store.adds.length, 3);
});

test('an Add without an answer may have been taken: it is reported, and sent nowhere else', async (t) => {
  const { producer, store } = await start(t, { socket_timeout_ms: 1_000 });
  store.addFate = () => 'taken in silence';
  const error = await failure(t, producer.enqueue(item('a')));
  t.like(error, { code: 'RPC_TIMEOUT', ret: -202, outcome_unknown: true, retryable: true });
  t.deepEqual(store.texts(0), ['a']);
});

test('an Add whose connection breaks may have been taken', async (t) => {
  const { producer, store } = await start(t, { failover_wait_ms: 0 });
  store.addFate = () => 'silence';
  const enqueued = failure(t, producer.enqueue(item('a')));
  await store.until(() => store.adds.some(({ replica }) => replica === 0), 'the Add arrives at the master');
  await store.stopReplica(0);
  t.like(await enqueued, { code: 'RPC_IO', outcome_unknown: true, retryable: true });
  t.is(store.adds.filter(({ replica }) => replica !== store.master).length, store.adds.length - 1);
});

for (const [ret, outcome_unknown] of [
  [-10318, true],
  [-10312, true],
  [-1, true],
  [-10319, false],
  [-22, false],
  [-10104, false],
  [10108, false],
  [10201, false],
] as const) {
  test(`after code ${ret} the outcome is ${outcome_unknown ? 'unknown' : 'certain'}`, async (t) => {
    const { producer, store } = await start(t);
    store.addFate = () => ({ result: ret });
    t.like(await failure(t, producer.enqueue(item('a'))), { ret, outcome_unknown });
  });
}

test('who asks for it has items of unknown fate sent again, and gets them twice', async (t) => {
  const { producer, store } = await start(t, { retry_unknown: true });
  let first = true;
  store.addFate = () => {
    if (!first) return null;
    first = false;
    return { result: -10318, taken: true };
  };
  const { cursor } = await producer.enqueue(item('a'));
  t.is(cursor, 2n);
  t.deepEqual(store.texts(0), ['a', 'a']);
});

test('what may have been taken once stays unknown, whatever the last try says', async (t) => {
  const { producer, store } = await start(t, { retry_unknown: true });
  let first = true;
  store.addFate = () => {
    const fate = { result: first ? -10318 : -10319 };
    first = false;
    return fate;
  };
  t.like(await failure(t, producer.enqueue(item('a'))), { ret: -10319, outcome_unknown: true });
});

test('configured retries go to other queues and stores', async (t) => {
  const deployment = { stores: 3, topic: { producer_nretry_raw_add: 2 }, queue_infos: [quickQueue(1, '0-9')] };
  const { producer, stores } = await start(t, {}, deployment);
  const seen: string[] = [];
  for (const store of stores) {
    store.addFate = ({ store_id, queue_id }) => {
      seen.push(`${store_id}/${queue_id}`);
      return seen.length < 3 ? { result: -10319 } : null;
    };
  }
  const { store_id, queue_id } = await producer.enqueue(item('a', 123n));
  t.is(seen.length, 3);
  t.is(seen.at(-1), `${store_id}/${queue_id}`);
  t.deepEqual(
    seen.map((place) => place.split('/')[1]),
    ['5', '6', '7'],
  );
  t.is(new Set(seen.map((place) => place.split('/')[0])).size, 3);
});

test('an abort ends a wait for a master; one while an Add runs leaves the outcome open', async (t) => {
  const { producer, store } = await start(t);
  store.master = null;
  const waiting = new AbortController();
  const first = failure(t, producer.enqueue(item('a'), { signal: waiting.signal }));
  await store.until(() => store.adds.length >= 3, 'the first round has failed');
  waiting.abort(new Error('enough'));
  t.like(await first, { code: 'ABORTED' });

  const before = AbortSignal.abort();
  t.like(await failure(t, producer.enqueue(item('b'), { signal: before })), {
    code: 'ABORTED',
    outcome_unknown: false,
  });

  const running = new AbortController();
  const count = store.adds.length;
  const second = failure(t, producer.enqueue(item('c'), { signal: running.signal }));
  await store.until(() => store.adds.length > count, 'the Add has arrived');
  running.abort();
  t.like(await second, { code: 'ABORTED', outcome_unknown: true });
});

test('an enqueue ends with its time', async (t) => {
  const { producer, store } = await start(t);
  store.addFate = () => 'silence';
  const error = await failure(t, producer.enqueue(item('a'), { timeout_ms: 50 }));
  t.like(error, { code: 'RPC_TIMEOUT', ret: -202, outcome_unknown: true });
});

test('close waits for what runs, and refuses what comes after it', async (t) => {
  const { producer, store } = await start(t, { batching: true }, { topic: { producer_batch_delay_time_ms: 60_000 } });
  const enqueued = producer.enqueue(item('a'));
  const closed = producer.close();
  t.is((await enqueued).cursor, 1n);
  await closed;
  t.like(await failure(t, producer.enqueue(item('b'))), { code: 'CLOSED', outcome_unknown: false });
  t.deepEqual(store.texts(0), ['a']);
});

test('more items or bytes on their way than the limits allow are refused', async (t) => {
  const { producer, store } = await start(t, { pending_items_max: 2, pending_bytes_max: 10_000 });
  store.addFate = () => 'silence';
  const end = new AbortController();
  const first = failure(t, producer.enqueue(item('a'), { signal: end.signal }));
  t.like(await failure(t, producer.enqueueAll([item('b'), item('c')])), { code: 'PROPOSE_FAST_REJECT' });
  t.like(await failure(t, producer.enqueue(item('x'.repeat(10_000)))), { code: 'PROPOSE_FAST_REJECT' });
  t.is(producer.pending_items, 1);
  end.abort();
  await first;
  t.is(producer.pending_items, 0);
});

test('concurrent calls share requests when batching, each gets its own cursor', async (t) => {
  const { producer, store } = await start(t, { batching: true }, { topic: { batch_limit: 20 } });
  await producer.enqueue(item('first'));
  const count = store.adds.length;
  const placements = await Promise.all(Array.from({ length: 20 }, (_, n) => producer.enqueue(item(`${n}`))));
  t.is(store.adds.length - count, 2);
  const texts = new Map(store.items(0).map(({ cursor_id, buffer }) => [cursor_id, Buffer.from(buffer).toString()]));
  t.deepEqual(
    placements.map(({ cursor }) => texts.get(cursor)),
    Array.from({ length: 20 }, (_, n) => `${n}`),
  );
});

test('many items go in few requests, within the limits, and in order per key', async (t) => {
  const limits = { batch_limit: 10, items_byte_size_limit: 2_000 };
  const { producer, store } = await start(t, {}, { topic: limits, queue_infos: [quickQueue(1, '0-3')] });
  const items = Array.from({ length: 200 }, (_, n) => item(`${(n % 7) + 1}-${n}`, BigInt((n % 7) + 1)));
  const results = await producer.enqueueAll(items);
  t.true(results.every(({ placement }) => placement !== undefined));
  const texts = [0, 1, 2, 3].flatMap((queue_id) => store.texts(queue_id));
  t.is(texts.length, 200);
  for (let key = 1; key <= 7; key += 1) {
    const numbers = texts.filter((text) => text.startsWith(`${key}-`)).map((text) => Number(text.split('-')[1]));
    t.deepEqual(
      numbers,
      [...numbers].sort((a, b) => a - b),
    );
  }
  for (const { request } of store.adds) t.true(request.items.length <= 10);
  for (const [n, { placement }] of results.entries()) {
    const at = store.items(placement?.queue_id ?? -1).find(({ cursor_id }) => cursor_id === placement?.cursor);
    t.is(Buffer.from(at?.buffer ?? []).toString(), items[n]?.buffer ?? '');
  }
});

test('behind a request that failed nothing is sent to the same queue', async (t) => {
  const { producer, store } = await start(t, {}, { topic: { batch_limit: 2, producer_nretry_raw_add: 3 } });
  store.addFate = ({ items }) =>
    items.some(({ buffer }) => buffer[0] === 0x63) ? { result: -10318, taken: true } : null;
  const results = await producer.enqueueAll([...'abcdef'].map((text) => item(text)));
  t.deepEqual(store.texts(0), ['a', 'b', 'c', 'd']);
  t.deepEqual(
    results.map(({ error }) => error?.outcome_unknown),
    [undefined, undefined, true, true, false, false],
  );
});

test('items that are wrong are refused before anything is sent', async (t) => {
  const { producer, store } = await start(t, {}, { topic: { items_byte_size_limit: 1_000 } });
  const good = item('a');
  for (const [bad, ret] of [
    [{ ...good, pub_id: 9 }, -10110],
    [{ ...good, topic_id: 5 }, -2],
    [{ ...good, handle_id: 1.5 }, -2],
    [{ ...good, uin: -1n }, -2],
    [{ ...good, uin: 2n ** 64n }, -2],
    [{ ...good, uin: 2 ** 60 }, -2],
    [{ ...good, consumer_group_ids: [] }, -10111],
    [{ ...good, consumer_group_ids: [2] }, -10111],
    [{ ...good, client_id: 'x'.repeat(2_000) }, -2],
    [{ ...good, buffer: 'x'.repeat(1_000) }, 10108],
  ] as const) {
    t.like(await failure(t, producer.enqueueAll([good, bad])), { ret, outcome_unknown: false });
  }
  t.like(await failure(t, producer.enqueue({ ...good, topic_id: 5 })), { ret: -10102, outcome_unknown: false });
  t.is(store.adds.length, 0);
  t.deepEqual(await producer.enqueueAll([]), []);
});

test('a queue that drops everything takes items without a request', async (t) => {
  const { producer, store } = await start(t, {}, { queue_infos: [quickQueue(1, '0', { drop_all: 1 })] });
  t.is((await producer.enqueue(item('a'))).cursor, CURSOR_NONE);
  t.is(store.adds.length, 0);
});

test('a configuration that is not there is one clear error', async (t) => {
  const error = await t.throwsAsync(Producer.open({ global_config_path: 'nowhere/global.conf' }), {
    instanceOf: PhxError,
  });
  t.is(error?.code, 'CONFIG');
  t.regex(error?.message ?? '', /nowhere\/global\.conf/);
});
