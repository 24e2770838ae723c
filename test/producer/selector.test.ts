import test, { type ExecutionContext } from 'ava';
import { loadGlobalConfig, type StoreConfig, type TopicFiles } from '../../src/ts/config/global_config.js';
import { EnqueueError } from '../../src/ts/producer/enqueue_error.js';
import { Selector } from '../../src/ts/producer/selector.js';
import { type DeploymentOptions, deploy, quickQueue } from '../support/deployment.js';

const NONE: ReadonlySet<StoreConfig> = new Set();
const item = { pub_id: 1, count: 0, uin: 123n };

async function filesOf(t: ExecutionContext, options: DeploymentOptions): Promise<TopicFiles> {
  const { global_config_path } = await deploy(t, options);
  return loadGlobalConfig(global_config_path).requireTopic('test', { file: 'test', key: 'topic' });
}

test('a key has its queue, and retries go to the next ones', async (t) => {
  const selector = new Selector(await filesOf(t, { queue_infos: [quickQueue(1, '10-19')] }));
  const queues = [0, 1, 2].map((attempt) => selector.choose(item, 0n, attempt, NONE).route.queue_id);
  t.deepEqual(queues, [15, 16, 17]);
});

test('retries stay with the queue if the configuration says so', async (t) => {
  const options = { topic: { producer_retry_switch_queue: 0 }, queue_infos: [quickQueue(1, '0-9')] };
  const selector = new Selector(await filesOf(t, options));
  const queues = [0, 1, 2].map((attempt) => selector.choose(item, 0n, attempt, NONE).route.queue_id);
  t.deepEqual(queues, [5, 5, 5]);
});

test('each pub has the ring of the stores that serve it, whichever is used first', async (t) => {
  const pubs = [1, 2].map((pub_id) => ({ pub_id, queue_info_ids: [1], consumer_group_ids: [1] }));
  const files = await filesOf(t, { stores: 2, pubs, pub_ids: [[1], [2]] });
  for (const order of [
    [1, 2],
    [2, 1],
  ]) {
    const selector = new Selector(files);
    for (const pub_id of order) {
      for (let uin = 1n; uin < 50n; uin += 1n) {
        t.is(selector.choose({ pub_id, count: 0, uin }, 0n, 0, NONE).route.store_id, pub_id);
      }
    }
  }
});

test('retries visit every store once', async (t) => {
  const selector = new Selector(await filesOf(t, { stores: 3 }));
  for (let uin = 1n; uin < 30n; uin += 1n) {
    const tried = new Set<StoreConfig>();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const { store } = selector.choose({ pub_id: 1, count: 0, uin }, 0n, attempt, tried);
      t.false(tried.has(store));
      tried.add(store);
    }
    t.is(tried.size, 3);
  }
});

test('retries stay with the store if the configuration says so', async (t) => {
  const selector = new Selector(await filesOf(t, { stores: 3, topic: { producer_retry_switch_store: 0 } }));
  const first = selector.choose(item, 0n, 0, NONE);
  t.is(selector.choose(item, 0n, 1, new Set([first.store])).store, first.store);
});

test('an item without a key, or whose key is not to be looked at, goes by the random one', async (t) => {
  const queue_infos = [quickQueue(1, '0-9'), quickQueue(2, '20-29', { handle_by_random_uin: 1 })];
  const pubs = [1, 2].map((pub_id) => ({ pub_id, queue_info_ids: [pub_id], consumer_group_ids: [1] }));
  const selector = new Selector(await filesOf(t, { queue_infos, pubs }));
  t.is(selector.choose({ ...item, uin: 0n }, 123n, 0, NONE).route.queue_id, 5);
  t.is(selector.choose({ pub_id: 2, count: 0, uin: 7n }, 123n, 0, NONE).route.queue_id, 25);
});

test('an item walks down its chain, and there is an end', async (t) => {
  const queue_infos = [quickQueue(1, '0', { count: 1 }), quickQueue(2, '1', { count: 2 })];
  const pubs = [{ pub_id: 1, queue_info_ids: [1, 2], consumer_group_ids: [1] }];
  const selector = new Selector(await filesOf(t, { queue_infos, pubs }));
  const queues = [0, 1, 2].map((count) => selector.choose({ ...item, count }, 0n, 0, NONE).route.queue_id);
  t.deepEqual(queues, [0, 1, 1]);
  const ended = t.throws(() => selector.choose({ ...item, count: 3 }, 0n, 0, NONE), { instanceOf: EnqueueError });
  t.is(ended.ret, -10109);
  const unknown = t.throws(() => selector.choose({ ...item, pub_id: 9 }, 0n, 0, NONE), { instanceOf: EnqueueError });
  t.is(unknown.ret, -10110);
});
