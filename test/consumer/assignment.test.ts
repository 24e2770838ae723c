import test, { type ExecutionContext } from 'ava';
import { type ConsumerConfig, loadGlobalConfig, type TopicFiles } from '../../src/ts/config/global_config.js';
import { queueKey } from '../../src/ts/consumer/assigned_queue.js';
import { assignQueues, spreadQueues } from '../../src/ts/consumer/assignment.js';
import { temporaryFolder, writeFiles } from '../config/files.js';

interface Shape {
  readonly consumers: readonly { readonly scale?: number; readonly consumer_group_ids?: readonly number[] }[];
  readonly ignored?: readonly number[];
}

/** Twenty queues in two queue_infos, two pubs that share one of them, two groups. */
function load(t: ExecutionContext, { consumers, ignored = [] }: Shape): TopicFiles {
  const folder = temporaryFolder(t);
  const addrs = [{ ip: '127.0.0.1', port: 5100, paxos_port: 5101 }];
  const path = (name: string): string => `${folder}/${name}`;
  writeFiles(folder, {
    'global.conf': {
      topic_infos: [
        {
          topic_id: 1000,
          topic_name: 'test',
          topic_config_path: path('topic.conf'),
          store_config_path: path('store.conf'),
          consumer_config_path: path('consumer.conf'),
        },
      ],
    },
    'topic.conf': {
      topic: { topic_id: 1000, consumer_ignore_consumer_group_ids: ignored },
      queue_infos: [
        { queue_info_id: 1, ranges: ['0-9'] },
        { queue_info_id: 2, ranges: ['10-19'] },
      ],
      pubs: [
        { pub_id: 1, queue_info_ids: [1, 2], consumer_group_ids: [1] },
        { pub_id: 2, queue_info_ids: [2], consumer_group_ids: [1, 2] },
      ],
      consumer_groups: [1, 2].map((consumer_group_id) => ({ consumer_group_id, use_dynamic_scale: 0, skip_lock: 1 })),
    },
    'store.conf': { stores: [{ store_id: 1, addrs, scale: 100 }] },
    'consumer.conf': {
      consumers: consumers.map((consumer, n) => ({
        addr: { ip: '127.0.0.1', port: 8001 + n },
        scale: 1000,
        ...consumer,
      })),
    },
  });
  return loadGlobalConfig(path('global.conf')).requireTopic('test', { file: 'test', key: 'topic' });
}

function queuesOf(files: TopicFiles, consumer: ConsumerConfig, group: number): number[] {
  return assignQueues(files, consumer)
    .filter(({ consumer_group_id }) => consumer_group_id === group)
    .map(({ queue_id }) => queue_id);
}

test('the owners are those that the original computes', (t) => {
  const files = load(t, { consumers: [{}, {}, {}] });
  const owners = [3, 2, 2, 1, 2, 1, 2, 1, 2, 2, 1, 2, 2, 1, 1, 1, 2, 1, 3, 3];
  for (const [n, consumer] of files.consumers.entries()) {
    const expected = owners.flatMap((owner, queue_id) => (owner === n + 1 ? [queue_id] : []));
    t.deepEqual(queuesOf(files, consumer, 1), expected);
  }
});

test('every queue of a group has one owner, among the consumers that serve the group', (t) => {
  const files = load(t, { consumers: [{ consumer_group_ids: [1] }, {}, { consumer_group_ids: [2] }] });
  const [first, , third] = files.consumers;
  const all = (group: number): number[] => files.consumers.flatMap((consumer) => queuesOf(files, consumer, group));
  t.deepEqual(
    all(1).sort((a, b) => a - b),
    Array.from({ length: 20 }, (_, queue_id) => queue_id),
  );
  t.deepEqual(
    all(2).sort((a, b) => a - b),
    Array.from({ length: 10 }, (_, n) => n + 10),
  );
  if (first === undefined || third === undefined) throw new Error('three consumers are configured');
  t.deepEqual(queuesOf(files, first, 2), []);
  t.deepEqual(queuesOf(files, third, 1), []);
});

test('a consumer without weight gets nothing, an ignored group has nobody', (t) => {
  const files = load(t, { consumers: [{ scale: 0 }, {}], ignored: [2] });
  const [weightless, other] = files.consumers;
  if (weightless === undefined || other === undefined) throw new Error('two consumers are configured');
  t.deepEqual(assignQueues(files, weightless), []);
  t.is(queuesOf(files, other, 1).length, 20);
  t.deepEqual(queuesOf(files, other, 2), []);
});

test('more queues than workers: several for each, none left over', (t) => {
  const files = load(t, { consumers: [{}] });
  const [consumer] = files.consumers;
  if (consumer === undefined) throw new Error('a consumer is configured');
  const queues = assignQueues(files, consumer);
  const shares = spreadQueues(queues, 4);
  t.deepEqual(
    shares.map(({ length }) => length),
    [8, 8, 7, 7],
  );
  const keys = shares.flat().map(queueKey);
  t.deepEqual(keys.sort(), queues.map(queueKey).sort());
  t.deepEqual(spreadQueues(queues.slice(0, 1), 3), [queues.slice(0, 1), [], []]);
});
