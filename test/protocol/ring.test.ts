import test from 'ava';
import { ConsumerRing, queueRank, StoreRing, storeKey, storePoints } from '../../src/ts/protocol/ring.js';

const ip = '127.0.0.1';

function store(first_port: number, scale = 100) {
  return {
    scale,
    addrs: [0, 100, 200].map((step) => ({ ip, port: first_port + step, paxos_port: first_port + step + 1 })),
  };
}

function consumers(scale: number) {
  return [8001, 8002, 8003].map((port) => ({ addr: { ip, port, paxos_port: 0 }, scale }));
}

test('the points of a store are those of the original', (t) => {
  t.deepEqual(storePoints(store(5100)).slice(0, 2), [17738722797603984765n, 18378723980415937263n]);
});

test('a key stands on the store ring where the original puts it', (t) => {
  t.is(storeKey(1000, 123n, null), 17376402530018512457n);
  t.is(storeKey(1000, 123n, 0), 16496488733936773519n);
});

test('a key belongs to the queue of the original, retries to the following ones', (t) => {
  t.is(queueRank(1000, 123n, 0), 1065366555);
  t.deepEqual(
    [0, 1, 2].map((attempt) => queueRank(1000, 123n, attempt) % 10),
    [5, 6, 7],
  );
});

test('the queues of the sample belong to the consumers that the original names', (t) => {
  const ring = new ConsumerRing(consumers(1000));
  const owners = Array.from({ length: 20 }, (_, queue_id) => (ring.owner(1, 1, queue_id)?.addr.port ?? 0) - 8000);
  t.deepEqual(owners, [3, 2, 2, 1, 2, 1, 2, 1, 2, 2, 1, 2, 2, 1, 1, 1, 2, 1, 3, 3]);
});

test('the order in which consumers are listed does not matter', (t) => {
  const ring = new ConsumerRing(consumers(100));
  const reversed = new ConsumerRing(consumers(100).reverse());
  for (let queue_id = 0; queue_id < 200; queue_id += 1) {
    t.is(ring.owner(2, 3, queue_id)?.addr.port, reversed.owner(2, 3, queue_id)?.addr.port);
  }
});

test('without weights no consumer serves a queue', (t) => {
  t.is(new ConsumerRing(consumers(0)).owner(1, 1, 0), undefined);
  t.is(new ConsumerRing([]).owner(1, 1, 0), undefined);
});

test('a store without a weight is not chosen', (t) => {
  const weighty = store(5100);
  const ring = new StoreRing([store(6100, 0), weighty]);
  for (let uin = 1n; uin < 50n; uin += 1n) t.is(ring.select(storeKey(1000, uin, 0)), weighty);
});

test('each further attempt goes to a store not tried yet', (t) => {
  const stores = [store(5100), store(6100), store(7100)];
  const ring = new StoreRing(stores);
  for (let uin = 1n; uin < 50n; uin += 1n) {
    const tried = new Set<(typeof stores)[number]>();
    for (let attempt = 0; attempt < stores.length; attempt += 1) {
      const chosen = ring.select(storeKey(1000, uin, attempt), tried);
      if (chosen !== undefined) tried.add(chosen);
    }
    t.is(tried.size, stores.length);
  }
});

test('where every store was tried, or none has a weight, the key itself chooses', (t) => {
  const stores = [store(5100), store(6100)];
  t.is(new StoreRing(stores).select(5n, new Set(stores)), stores[1]);
  const weightless = [store(5100, 0), store(6100, 0)];
  t.is(new StoreRing(weightless).select(4n), weightless[0]);
  t.is(new StoreRing([]).select(4n), undefined);
});

test('stores share the keys of a ring about as their weights say', (t) => {
  const light = store(5100, 100);
  const heavy = store(6100, 300);
  const ring = new StoreRing([light, heavy]);
  let light_keys = 0;
  for (let uin = 1n; uin <= 2000n; uin += 1n) if (ring.select(storeKey(1000, uin, null)) === light) light_keys += 1;
  t.true(light_keys > 250 && light_keys < 850, `${light_keys} of 2000`);
});
