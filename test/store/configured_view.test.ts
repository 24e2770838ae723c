import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { loadGlobalConfig } from '../../src/ts/config/global_config.js';
import { scanItem } from '../../src/ts/protocol/add_request.js';
import { encode } from '../../src/ts/protocol/messages.js';
import { ConfiguredView } from '../../src/ts/store/configured_view.js';
import { TOPIC_ID, testItem } from './requests.js';

const own = { ip: '127.0.0.1', port: 5200 };
const addrs = [5100, 5200, 5300].map((port) => ({ ip: own.ip, port, paxos_port: port + 1 }));

/** Pub 1 (groups 1, 2) and pub 2 (group 3) share queues 0-9; pub 2 alone has 20-29. Group 2 is ignored. */
async function viewOf(t: ExecutionContext, pub_ids: readonly number[], address = own): Promise<ConfiguredView> {
  const folder = await mkdtemp(join(tmpdir(), 'phxqueue-view-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const json = (name: string, value: unknown): Promise<void> => writeFile(join(folder, name), JSON.stringify(value));
  await json('global.conf', {
    topic_infos: [
      { topic_id: TOPIC_ID, topic_name: 'test', topic_config_path: 'topic.conf', store_config_path: 'store.conf' },
    ],
  });
  await json('topic.conf', {
    topic: {
      topic_id: TOPIC_ID,
      handle_ids: [1, 2],
      items_byte_size_limit: 5_000,
      store_get_loop_max_time_ms: 7,
      consumer_ignore_consumer_group_ids: [2],
    },
    queue_infos: [
      { queue_info_id: 1, ranges: ['0-9'] },
      { queue_info_id: 2, ranges: ['20-29'] },
    ],
    pubs: [
      { pub_id: 1, consumer_group_ids: [1, 2], queue_info_ids: [1] },
      { pub_id: 2, consumer_group_ids: [3], queue_info_ids: [1, 2] },
    ],
    consumer_groups: [1, 2, 3].map((consumer_group_id) => ({ consumer_group_id })),
    skip_infos: [{ uin: 7, consumer_group_id: 1, queue_info_id: 1 }],
  });
  await json('store.conf', { stores: [{ store_id: 4, addrs, pub_ids }] });
  const files = loadGlobalConfig('global.conf', { base: folder }).topicById(TOPIC_ID);
  if (files === undefined) throw new Error('the topic is not there');
  return new ConfiguredView(files, address);
}

test('takes the numbers of the topic and the id of the own store', async (t) => {
  const view = await viewOf(t, []);
  t.is(view.topic_id, TOPIC_ID);
  t.is(view.store_id, 4);
  t.is(view.items_byte_size_limit, 5_000);
  t.is(view.get_loop_max_time_ms, 7);
});

test('a store whose address is not listed has no id and knows no replica', async (t) => {
  const view = await viewOf(t, [], { ip: own.ip, port: 4711 });
  t.is(view.store_id, null);
  t.is(view.addressOf({ id: 1, host: own.ip, paxos_port: 5101 }), null);
});

test('a queue is valid if any pub uses it, whichever pubs the store serves', async (t) => {
  const view = await viewOf(t, [1]);
  t.deepEqual(
    [0, 9, 10, 20, 29, 30, -1].map((queue_id) => view.isValidQueue(queue_id)),
    [true, true, false, true, true, false, false],
  );
});

test('only groups of the served pubs have to acknowledge, without the ignored ones', async (t) => {
  const all = await viewOf(t, []);
  t.deepEqual(all.groupsOf(0), [1, 3]);
  t.deepEqual(all.groupsOf(20), [3]);
  const first = await viewOf(t, [1]);
  t.deepEqual(first.groupsOf(0), [1]);
  t.deepEqual(first.groupsOf(20), []);
  t.deepEqual(first.groupsOf(4711), []);
});

test('replicas have the addresses of the store file', async (t) => {
  const view = await viewOf(t, []);
  t.deepEqual(view.addressOf({ id: 3, host: own.ip, paxos_port: 5301 }), addrs[2]);
  t.is(view.addressOf({ id: 3, host: own.ip, paxos_port: 5302 }), null);
  t.is(view.addressOf({ id: 3, host: '10.0.0.1', paxos_port: 5301 }), null);
});

test('skip rules take what an item says', async (t) => {
  const view = await viewOf(t, []);
  const fields = (uin: bigint) =>
    scanItem(encode('QItem', testItem('x', { meta: { topic_id: TOPIC_ID, handle_id: 2, uin } })));
  t.true(view.skips(fields(7n), 0, 1));
  t.false(view.skips(fields(8n), 0, 1));
  t.false(view.skips(fields(7n), 20, 1));
  t.false(view.skips(fields(7n), 0, 3));
});
