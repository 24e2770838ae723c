import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { configCheck } from '../../src/ts/cli/config_check.js';
import { checkConfig } from '../../src/ts/config/check.js';
import { temporaryFolder, topicFile, topicFiles, writeFiles } from './files.js';

function check(t: ExecutionContext, files: Record<string, unknown>) {
  const base = temporaryFolder(t);
  writeFiles(base, files);
  return checkConfig('global.conf', base);
}

/** What a check of a topic's file says, with some of its lists replaced. */
function checkTopicFile(t: ExecutionContext, changes: Readonly<Record<string, unknown>>) {
  return check(t, topicFiles({ 'topic.conf': topicFile(changes) }));
}

test('both samples and the test topic are fine', (t) => {
  t.deepEqual(checkConfig('etc/globalconfig.conf').errors, []);
  t.deepEqual(checkConfig('etc/globalconfig.conf').warnings, []);
  t.deepEqual(checkConfig('etc/rich/globalconfig.conf').errors, []);
  t.deepEqual(checkConfig('etc/rich/globalconfig.conf').warnings, []);
  const { errors, warnings, checked } = check(t, topicFiles());
  t.deepEqual([errors, warnings], [[], []]);
  t.is(checked[0]?.startsWith('topic 7 "small": 2 pubs, 3 consumer groups, 3 queue_infos, 18 queues'), true);
});

test('all problems of all files are found at once', (t) => {
  const { errors } = check(
    t,
    topicFiles({
      'topic.conf': topicFile({ topic: { topic_id: 7, batch_limt: 1, batch_limit: 'x' } }),
      'store.conf': { stores: [{ store_id: 1, addrs: [{ ip: 'a', port: 0, paxos_port: 1 }] }] },
      'lock.conf': '{',
    }),
  );
  t.deepEqual(
    errors.map((line) => line.split(': ').slice(0, 2).join(': ')),
    [
      'topic.conf: topic.batch_limt',
      'topic.conf: topic.batch_limit',
      'store.conf: stores[0].addrs[0].ip',
      'store.conf: stores[0].addrs[0].port',
      'lock.conf: is no JSON',
    ],
  );
});

test('a path that is missing or empty is one problem, not two', (t) => {
  const info = { topic_id: 7, topic_name: 'small', topic_config_path: '', store_config_path: 'store.conf' };
  const { errors } = check(t, topicFiles({ 'global.conf': { topic_infos: [info, { topic_id: 8, topic_name: 'b' }] } }));
  t.deepEqual(errors, [
    'global.conf: topic_infos[0].topic_config_path: is empty; add it',
    'global.conf: topic_infos[1].topic_config_path: missing; add it',
    'global.conf: topic_infos[1].store_config_path: missing; add it',
  ]);
});

const queue_infos = [
  { queue_info_id: 1, ranges: ['0-9'] },
  { queue_info_id: 2, ranges: ['20'] },
  { queue_info_id: 3, ranges: ['30'] },
];
const mistakes: readonly [string, Readonly<Record<string, unknown>>, RegExp][] = [
  ['an unknown key', { topics: {} }, /^topic\.conf: topics: unknown key; did you mean topic\?$/],
  [
    'overlapping queue_infos',
    { queue_infos: [...queue_infos.slice(0, 2), { queue_info_id: 3, ranges: ['9-12'] }] },
    /^topic\.conf: queue_infos\[0\]\.ranges: overlaps with queue_info 3;/,
  ],
  [
    'overlapping ranges',
    { queue_infos: [{ queue_info_id: 1, ranges: ['0-9', '5-6'] }, ...queue_infos.slice(1)] },
    /queue_infos\[0\]\.ranges: overlaps with itself/,
  ],
  [
    'no queues',
    { queue_infos: [{ queue_info_id: 1 }, ...queue_infos.slice(1)] },
    /queue_infos\[0\]\.ranges: has no queue/,
  ],
  ['a count of 0', { queue_infos: [{ ...queue_infos[0], count: 0 }, ...queue_infos.slice(1)] }, /\[0\]\.count: is 0/],
  [
    'an endless queue_info before the last',
    { queue_infos: [{ ...queue_infos[0], count: -1 }, ...queue_infos.slice(1)] },
    /pubs\[0\]\.queue_info_ids\[0\]: has count -1, so nothing gets past it/,
  ],
  [
    'a lock renewed too late',
    { topic: { topic_id: 7, consumer_lock_interval_s: 30 } },
    /consumer_lock_interval_s: 30 s is/,
  ],
  [
    'a skip rule about nothing',
    { skip_infos: [{ handle_id: 9 }] },
    /skip_infos\[0\]\.handle_id: there is no handle_id 9/,
  ],
  [
    'a rate limit of a group that does not consume',
    { freq_infos: [{ pub_id: 2, consumer_group_id: 1, queue_info_id: 2 }] },
    /freq_infos\[0\]\.consumer_group_id: group 1 does not consume pub 2/,
  ],
  [
    'a replay about nothing',
    { replay_infos: [{ pub_ids: [1, 5] }] },
    /replay_infos\[0\]\.pub_ids: there is no pub_id 5/,
  ],
  [
    'half an address',
    { topic: { topic_id: 7, scheduler_master_ip: '10.0.0.1' } },
    /scheduler_master_ip and scheduler_master_/,
  ],
  [
    'a handler given twice',
    { topic: { topic_id: 7, handle_ids: [1, 2, 1] } },
    /handle_ids\[2\]: handle 1 is given twice/,
  ],
  ['no pub', { pubs: [] }, /pubs: there is no pub/],
];
for (const [what, changes, line] of mistakes) {
  test(`an error: ${what}`, (t) => {
    const base = { topic: { topic_id: 7, handle_ids: [1, 2] } };
    const { errors } = checkTopicFile(t, { ...base, ...changes });
    t.true(
      errors.some((error) => line.test(error)),
      errors.join('\n'),
    );
  });
}

const addr = (port: number) => ({ ip: '127.0.0.1', port, paxos_port: port + 1 });

test('an error: addresses used twice', (t) => {
  const stores = [
    { store_id: 1, addrs: [addr(5100), addr(5200), addr(5300)] },
    { store_id: 2, addrs: [addr(5101), addr(5400), addr(5500)] },
  ];
  const consumer = { addr: { ip: '127.0.0.1', port: 8001 } };
  const { errors } = check(
    t,
    topicFiles({ 'store.conf': { stores }, 'consumer.conf': { consumers: [consumer, consumer] } }),
  );
  t.deepEqual(errors, [
    'store.conf: stores[1].addrs[0].port: 127.0.0.1:5101 is also that of stores[0].addrs[0].paxos_port in store.conf; give each its own',
    'consumer.conf: consumers[1].addr: 127.0.0.1:8001 is also that of consumers[0].addr in consumer.conf; give each its own',
  ]);
});

test('an error: a pub that no store serves', (t) => {
  const { errors } = check(
    t,
    topicFiles({ 'store.conf': { stores: [{ store_id: 1, addrs: [addr(5100)], pub_ids: [1] }] } }),
  );
  t.deepEqual(errors, [
    'topic.conf: pubs[1]: no store with a scale above 0 serves pub 2; add it to the pub_ids of one',
  ]);
});

test('a warning: what is legal and probably not meant', (t) => {
  const { errors, warnings } = checkTopicFile(t, {
    queue_infos: [...queue_infos, { queue_info_id: 4, ranges: ['5000'] }],
    topic: { topic_id: 7, store_paxos_log_sync: 0 },
  });
  t.deepEqual(errors, []);
  t.deepEqual(
    warnings.map((line) => line.split(';')[0]),
    [
      'topic.conf: topic.store_paxos_log_sync: 0 is ignored, every write is synced',
      'topic.conf: queue_infos[3].ranges: queue 5000 is above 1999, which stores of the C++ original cannot hold',
      'topic.conf: queue_infos[3]: no pub uses it',
    ],
  );
});

function run(...args: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const status = configCheck(
    args,
    (line) => out.push(line),
    (line) => err.push(line),
  );
  return { status, out, err };
}

test('the program is silent and ends with 0 when all is well', (t) => {
  t.deepEqual(run('-f', 'etc/globalconfig.conf'), { status: 0, out: [], err: [] });
  const { status, out } = run('-f', 'etc/rich/globalconfig.conf', '-d');
  t.is(status, 0);
  t.regex(out.join('\n'), /^topic 1100 "orders": .*\netc\/rich\/globalconfig\.conf: fine$/);
});

test('the program prints each problem and ends with 1', (t) => {
  const { status, out, err } = run('-f', 'nowhere/globalconfig.conf');
  t.is(status, 1);
  t.deepEqual(out, []);
  const path = join(process.cwd(), 'nowhere/globalconfig.conf');
  t.deepEqual(err, [`nowhere/globalconfig.conf: no such file; create ${path} or give another path`]);
});

test('without arguments the program explains itself, wrong ones are refused', (t) => {
  t.is(run().status, 0);
  t.regex(run('--help').out.join(), /^Usage: config_check_main -f/);
  t.is(run('-d').status, 1);
  t.is(run('-z').status, 1);
});
