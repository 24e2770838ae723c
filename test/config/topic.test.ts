import test from 'ava';
import { runtimeReporter } from '../../src/ts/config/report.js';
import { topic_config } from '../../src/ts/config/schema.js';
import { TopicConfig } from '../../src/ts/config/topic.js';
import { topicFile } from './files.js';

function topicOf(changes: Readonly<Record<string, unknown>> = {}): TopicConfig {
  const report = runtimeReporter(() => undefined);
  const at = { file: 'topic.conf', key: '' };
  return new TopicConfig(topic_config.read(topicFile(changes), { ...at, report }), at, report);
}

test('the queues of a queue_info are its ranges in ascending order', (t) => {
  const topic = topicOf();
  t.deepEqual(topic.queuesOf(1), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  t.is(topic.queueByRank(1, 5), 10);
  t.is(topic.queueByRank(1, 15 * 7 + 14), 19);
  t.is(topic.queueByRank(99, 0), undefined);
  t.deepEqual(topic.queuesOfPub(1).slice(-4), [19, 20, 30, 31]);
  t.deepEqual(topic.queuesOfPub(99), []);
});

test('a queue belongs to one queue_info, to the last one if several list it', (t) => {
  const topic = topicOf({
    queue_infos: [
      { queue_info_id: 1, ranges: ['0-9'] },
      { queue_info_id: 2, ranges: ['5'] },
      { queue_info_id: 3, ranges: ['30'] },
    ],
  });
  t.is(topic.queueInfoByQueue(4)?.queue_info_id, 1);
  t.is(topic.queueInfoByQueue(5)?.queue_info_id, 2);
  t.is(topic.queueInfoByQueue(10), undefined);
});

test('an item walks down the chain of its pub as its deliveries fail', (t) => {
  const topic = topicOf();
  const walked = [0, 1, 2, 3, 4, 5, 1000].map((count) => topic.queueInfoByCount(1, count)?.queue_info_id);
  t.deepEqual(walked, [1, 2, 2, 2, 3, 3, 3]);
  t.deepEqual(
    [0, 2, 3].map((count) => topic.queueInfoByCount(2, count)?.queue_info_id),
    [2, 2, undefined],
  );
  t.is(topic.queueInfoByCount(99, 0), undefined);
});

test('a queue is valid for the pubs that use it and their groups', (t) => {
  const topic = topicOf();
  t.true(topic.isValidQueue(20));
  t.true(topic.isValidQueue(20, 2));
  t.true(topic.isValidQueue(20, 2, 3));
  t.true(topic.isValidQueue(20, -1, 1));
  t.false(topic.isValidQueue(20, 2, 1));
  t.false(topic.isValidQueue(0, 2));
  t.false(topic.isValidQueue(5));
  t.false(topic.isValidQueue(20, 9));
});

test('a queue that no pub uses is not valid', (t) => {
  const topic = topicOf({ pubs: [{ pub_id: 2, queue_info_ids: [2], consumer_group_ids: [3] }] });
  t.false(topic.isValidQueue(0));
  t.deepEqual(topic.groupsOfQueue(0), []);
});

test('the groups of a queue are those of its pubs, without the ignored ones', (t) => {
  t.deepEqual(topicOf().groupsOfQueue(20), [1, 2, 3]);
  t.deepEqual(topicOf().groupsOfQueue(0), [1, 2]);
  t.deepEqual(topicOf().groupsOfQueue(5), []);
  const ignoring = topicOf({ topic: { topic_id: 7, consumer_ignore_consumer_group_ids: [2] } });
  t.deepEqual(ignoring.groupsOfQueue(20), [1, 3]);
});

test('handlers have the rank of their place', (t) => {
  const topic = topicOf({ topic: { topic_id: 7, handle_ids: [5, 9, 5] } });
  t.deepEqual([topic.handleRank(5), topic.handleRank(9), topic.handleRank(1)], [0, 1, undefined]);
});

test('a skip rule needs all of its conditions', (t) => {
  const item = { uin: 12n, pub_id: 1, consumer_group_id: 1, queue_id: 20, handle_id: 2 };
  t.false(topicOf().isSkipped(item));
  for (const [rule, expected] of [
    [{}, true],
    [{ uin: 12 }, true],
    [{ uin: '13' }, false],
    [{ pub_id: 1, handle_id: 2 }, true],
    [{ pub_id: 1, handle_id: 1 }, false],
    [{ consumer_group_id: 2 }, false],
    [{ queue_info_id: 2 }, true],
    [{ queue_info_id: 1 }, false],
  ] as const) {
    t.is(topicOf({ skip_infos: [rule] }).isSkipped(item), expected, JSON.stringify(rule));
  }
  t.true(topicOf({ skip_infos: [{ pub_id: 2 }, { pub_id: 1 }] }).isSkipped(item));
});

test('a 64-bit number keeps its bits in quotes, and is refused where it lost them', (t) => {
  const topic = topicOf({ replay_infos: [{ cursor_id: '18446744073709551614' }, {}] });
  t.deepEqual(
    topic.replay_infos.map(({ cursor_id }) => cursor_id),
    [2n ** 64n - 2n, 2n ** 64n - 1n],
  );
  for (const cursor_id of [2 ** 53, '18446744073709551616', '-1', 'x', 1.5]) {
    t.throws(() => topicOf({ replay_infos: [{ cursor_id }] }), {
      code: 'CONFIG',
      message: /replay_infos\[0\]\.cursor_id/,
    });
  }
});
