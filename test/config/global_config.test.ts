import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type GlobalConfig, loadGlobalConfig, type TopicFiles } from '../../src/ts/config/global_config.js';
import { ownConsumer, ownStore } from '../../src/ts/config/own_address.js';
import { PhxError } from '../../src/ts/errors.js';
import { temporaryFolder, topicFile, topicFiles, writeFiles } from './files.js';

function load(t: ExecutionContext, files: Record<string, unknown>): { config: GlobalConfig; warnings: string[] } {
  const base = temporaryFolder(t);
  writeFiles(base, files);
  const warnings: string[] = [];
  const config = loadGlobalConfig('global.conf', { base, onWarning: (line) => warnings.push(line) });
  return { config, warnings };
}

function loadTopic(t: ExecutionContext, files: Record<string, unknown>): TopicFiles {
  const topic = load(t, files).config.topicByName('small');
  if (topic === undefined) throw new Error('no topic');
  return topic;
}

/** The one line that loading fails with. */
function failure(t: ExecutionContext, files: Record<string, unknown>): string {
  const error = t.throws(() => load(t, files), { instanceOf: PhxError, code: 'CONFIG' });
  t.false(error?.message.includes('\n'));
  return error?.message ?? '';
}

test('both samples load without a warning', (t) => {
  for (const [path, name, queues] of [
    ['etc/globalconfig.conf', 'test', [0]],
    ['etc/rich/globalconfig.conf', 'orders', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
  ] as const) {
    const config = loadGlobalConfig(path, { onWarning: (line) => t.fail(line) });
    const files = config.topicByName(name);
    t.deepEqual(files?.topic.queuesOf(1), queues);
    t.is(files?.stores[0]?.addrs.length, 3);
    t.is(files?.consumers.length, 3);
    t.is(files?.locks[0]?.addrs.length, 3);
    t.is(files?.scheduler.addrs.length, 3);
  }
});

test('the sample of the original has its values', (t) => {
  const files = loadGlobalConfig('etc/globalconfig.conf').topicById(1000);
  t.like(files?.topic.topic, {
    topic_id: 1000,
    handle_ids: [1, 2],
    store_paxos_batch_count: 80,
    store_paxos_batch_delay_time_ms: 30,
    batch_limit: 100,
    items_byte_size_limit: 2_097_152,
  });
  t.deepEqual(files?.stores[0]?.addrs[2], { ip: '127.0.0.1', port: 5300, paxos_port: 5301 });
  t.deepEqual(files?.consumers[0], {
    addr: { ip: '127.0.0.1', port: 8001, paxos_port: 0 },
    scale: 1000,
    consumer_group_ids: [],
  });
  t.deepEqual(files?.topic.consumerGroup(1), { consumer_group_id: 1, use_dynamic_scale: 0, skip_lock: 1 });
});

test('numbers may be texts, keys may be in camel case, commas may trail', (t) => {
  const topic = `{
    "topic": { "topicId": "7", "batchLimit": "50", store_adjustMaster: 1, "storeAdjustMasterRateTimeInterval10s": 2, },
    "queueInfos": [ { "queueInfoId": "1", "ranges": ["0"], }, ],
    "pubs": [ { "pubId": 1, "queueInfoIds": ["1"], "consumerGroupIds": [1], }, ],
    "consumerGroups": [ { "consumerGroupId": 1, }, ],
  }`.replace('store_adjustMaster: 1,', '');
  const { config, warnings } = load(t, topicFiles({ 'topic.conf': topic }));
  t.deepEqual(warnings, []);
  t.like(config.topicById(7)?.topic.topic, { batch_limit: 50, store_adjust_master_rate_time_interval_10s: 2 });
});

test('an unknown key is a warning that names the nearest known one', (t) => {
  const file = topicFile({ topic: { topic_id: 7, batch_limt: 5, xyzzyxyzzyxyzzy: 1 } });
  const { config, warnings } = load(t, topicFiles({ 'topic.conf': file }));
  t.deepEqual(warnings, [
    'topic.conf: topic.batch_limt: unknown key; did you mean batch_limit?',
    'topic.conf: topic.xyzzyxyzzyxyzzy: unknown key; remove it',
  ]);
  t.is(config.topicById(7)?.topic.topic.batch_limit, 100);
});

test('what would cost durability is ignored with a warning', (t) => {
  const file = topicFile({ topic: { topic_id: 7, store_paxos_log_sync: 0, store_paxos_fsync_interval: '5' } });
  const { warnings } = load(t, topicFiles({ 'topic.conf': file }));
  t.is(warnings.length, 2);
  t.regex(warnings[0] ?? '', /^topic\.conf: topic\.store_paxos_log_sync: 0 is ignored/);
  t.regex(warnings[1] ?? '', /^topic\.conf: topic\.store_paxos_fsync_interval: 5 is ignored/);
});

test('the first of two equal ids counts, with a warning', (t) => {
  const { pubs } = topicFile();
  const twice = [...(Array.isArray(pubs) ? pubs : []), { pub_id: 1, queue_info_ids: [3], consumer_group_ids: [1] }];
  const { config, warnings } = load(t, topicFiles({ 'topic.conf': topicFile({ pubs: twice }) }));
  t.deepEqual(warnings, ['topic.conf: pubs[2]: id 1 is given twice; remove one of the two']);
  t.deepEqual(config.topicById(7)?.topic.pub(1)?.queue_info_ids, [1, 2, 3]);
});

test('files that say nothing about scheduler, lock and consumers are enough for a store', (t) => {
  const global = {
    topic_infos: [
      { topic_id: 7, topic_name: 'small', topic_config_path: 'topic.conf', store_config_path: 'store.conf' },
    ],
  };
  const files = loadTopic(t, topicFiles({ 'global.conf': global }));
  t.deepEqual([files.consumers, files.locks, files.scheduler.addrs], [[], [], []]);
});

test('paths are taken from the base folder, or absolute', (t) => {
  const base = temporaryFolder(t);
  writeFiles(base, topicFiles());
  t.is(loadGlobalConfig(join(base, 'global.conf'), { base }).topics.length, 1);
  t.throws(() => loadGlobalConfig(join(base, 'global.conf')), { code: 'CONFIG', message: /topic\.conf/ });
});

const address = { ip: '127.0.0.1', port: 5100, paxos_port: 5101 };
const failures: readonly [string, Record<string, unknown>, RegExp][] = [
  [
    'a missing file, named by another',
    topicFiles({ 'topic.conf': undefined }),
    /^global\.conf: topic_infos\[0\]\.topic_config_path: names "topic\.conf", but there is no such file; create \/.*topic\.conf/,
  ],
  [
    'a file that is no JSON',
    topicFiles({ 'store.conf': '{ "stores": [ }' }),
    /^store\.conf: is no JSON: .*1:15; correct the syntax there$/,
  ],
  ['an empty file', topicFiles({ 'store.conf': '' }), /^store\.conf: is no JSON: /],
  [
    'a list for an object',
    topicFiles({ 'store.conf': [] }),
    /^store\.conf: a list is not an object; put its keys in \{ \}$/,
  ],
  [
    'an object for a list',
    topicFiles({ 'store.conf': { stores: {} } }),
    /^store\.conf: stores: an object is not a list; put it in \[ \]$/,
  ],
  ['no topic', topicFiles({ 'global.conf': {} }), /^global\.conf: topic_infos: missing; add it$/],
  [
    'a text for a number',
    topicFiles({ 'topic.conf': topicFile({ topic: { topic_id: 7, batch_limit: 'many' } }) }),
    /^topic\.conf: topic\.batch_limit: "many" is not a whole number; give a number from 1 to 2147483647$/,
  ],
  [
    'a fraction',
    topicFiles({ 'topic.conf': topicFile({ topic: { topic_id: 7, batch_limit: 1.5 } }) }),
    /topic\.batch_limit: 1\.5 is not a whole number/,
  ],
  [
    'a number out of range',
    topicFiles({ 'topic.conf': topicFile({ topic: { topic_id: 7, batch_limit: '0' } }) }),
    /topic\.batch_limit: "0" is out of range; give a number from 1/,
  ],
  [
    'a number for a text',
    topicFiles({ 'topic.conf': topicFile({ topic: { topic_id: 7, scheduler_lock_key: 5 } }) }),
    /topic\.scheduler_lock_key: 5 is not a text/,
  ],
  [
    'two ids of one topic',
    topicFiles({ 'topic.conf': topicFile({ topic: { topic_id: 8 } }) }),
    /^topic\.conf: topic\.topic_id: is 8, but global\.conf says 7; make the two equal$/,
  ],
  [
    'a missing topic id',
    topicFiles({ 'topic.conf': topicFile({ topic: {} }) }),
    /^topic\.conf: topic\.topic_id: missing; add it$/,
  ],
  [
    'a pub without its queue_info',
    topicFiles({ 'topic.conf': topicFile({ queue_infos: [] }) }),
    /^topic\.conf: pubs\[0\]\.queue_info_ids\[0\]: there is no queue_info 1; add it to queue_infos$/,
  ],
  [
    'a pub without its group',
    topicFiles({ 'topic.conf': topicFile({ consumer_groups: [{ consumer_group_id: 1 }] }) }),
    /^topic\.conf: pubs\[0\]\.consumer_group_ids\[0\]: there is no consumer group 2; add it to consumer_groups$/,
  ],
  [
    'a group above 64',
    topicFiles({ 'topic.conf': topicFile({ consumer_groups: [{ consumer_group_id: 65 }] }) }),
    /consumer_groups\[0\]\.consumer_group_id: 65 is out of range; give a number from 1 to 64/,
  ],
  [
    'queues that are none',
    topicFiles({ 'topic.conf': topicFile({ queue_infos: [{ queue_info_id: 1, ranges: ['0-4 6'] }] }) }),
    /queue_infos\[0\]\.ranges\[0\]: "0-4 6" is not a range of queues/,
  ],
  [
    'queues the wrong way round',
    topicFiles({ 'topic.conf': topicFile({ queue_infos: [{ queue_info_id: 1, ranges: ['9-0'] }] }) }),
    /ranges\[0\]: "9-0" is not a range/,
  ],
  [
    'more queues than memory',
    topicFiles({ 'topic.conf': topicFile({ queue_infos: [{ queue_info_id: 1, ranges: ['0-2000000000'] }] }) }),
    /ranges\[0\]: too many queues/,
  ],
  [
    'a host name',
    topicFiles({ 'store.conf': { stores: [{ store_id: 1, addrs: [{ ...address, ip: 'localhost' }] }] } }),
    /^store\.conf: stores\[0\]\.addrs\[0\]\.ip: "localhost" is not an IPv4 address/,
  ],
  [
    'a port out of range',
    topicFiles({ 'store.conf': { stores: [{ store_id: 1, addrs: [{ ...address, port: 65536 }] }] } }),
    /stores\[0\]\.addrs\[0\]\.port: 65536 is out of range; give a number from 1 to 65535/,
  ],
  [
    'a replica without a Paxos port',
    topicFiles({ 'store.conf': { stores: [{ store_id: 1, addrs: [{ ip: '127.0.0.1', port: 5100 }] }] } }),
    /stores\[0\]\.addrs\[0\]\.paxos_port: missing/,
  ],
  ['no store', topicFiles({ 'store.conf': {} }), /^store\.conf: stores: there is no store/],
  [
    'a store id of 0',
    topicFiles({ 'store.conf': { stores: [{ store_id: 0, addrs: [address] }] } }),
    /stores\[0\]\.store_id: 0 is out of range/,
  ],
  [
    'a consumer with a Paxos port',
    topicFiles({ 'consumer.conf': { consumers: [{ addr: address }] } }),
    /^consumer\.conf: consumers\[0\]\.addr\.paxos_port: a consumer has none; remove it$/,
  ],
];
for (const [what, files, line] of failures) {
  test(`refused with one line: ${what}`, (t) => {
    const written = Object.fromEntries(Object.entries(files).filter(([, content]) => content !== undefined));
    t.regex(failure(t, written), line);
  });
}

test('a global file that is not there is refused with its path', (t) => {
  const base = temporaryFolder(t);
  const message = `nowhere.conf: no such file; create ${join(base, 'nowhere.conf')} or give another path`;
  t.throws(() => loadGlobalConfig('nowhere.conf', { base }), { code: 'CONFIG', message });
});

test('a topic that is not there is refused with the nearest name', (t) => {
  const { config } = load(t, topicFiles());
  const at = { file: 'store.0.conf', key: 'Store.Topic' };
  t.throws(() => config.requireTopic('smal', at), {
    code: 'CONFIG',
    message:
      'store.0.conf: Store.Topic: there is no topic "smal" (did you mean small?); add it to global.conf or name another',
  });
  t.is(config.requireTopic('small', at).info.topic_id, 7);
});

test('a store finds itself by its address', (t) => {
  const files = loadTopic(t, topicFiles());
  const { store, index } = ownStore(files, { ip: '127.0.0.1', port: 5200, paxos_port: 5201 }, 's.conf');
  t.deepEqual([store.store_id, index], [1, 1]);
  t.throws(() => ownStore(files, { ip: '127.0.0.1', port: 5400, paxos_port: 5401 }, 's.conf'), {
    code: 'CONFIG',
    message:
      's.conf: Server.BindIP, Server.Port: 127.0.0.1:5400 is not in store.conf, ' +
      'which lists 127.0.0.1:5100, 127.0.0.1:5200, 127.0.0.1:5300; correct one of the two files',
  });
  t.throws(() => ownStore(files, { ip: '127.0.0.1', port: 5200, paxos_port: 1 }, 's.conf'), {
    message: 's.conf: Store.PaxosPort: is 1, but store.conf says 5201; make the two equal',
  });
});

test('a consumer finds itself by its identity', (t) => {
  const files = loadTopic(t, topicFiles());
  t.is(ownConsumer(files, { ip: '127.0.0.1', port: 8001 }, 'c.conf').scale, 100);
  t.throws(() => ownConsumer(files, { ip: '127.0.0.1', port: 8002 }, 'c.conf'), {
    code: 'CONFIG',
    message:
      /^c\.conf: consumer\.ip, consumer\.port: 127\.0\.0\.1:8002 is not in consumer\.conf, which lists 127\.0\.0\.1:8001;/,
  });
});
