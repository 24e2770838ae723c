import test from 'ava';
import { runtimeReporter } from '../../src/ts/config/report.js';
import { type Topic, topic_config } from '../../src/ts/config/schema.js';
import { DEFAULT_CORE_OPTIONS } from '../../src/ts/paxos/core/types.js';
import { addBodyBytesMax, checkpointOptions, coreOptions } from '../../src/ts/store/paxos_options.js';

function topicOf(keys: Readonly<Record<string, number>>): Topic {
  const report = runtimeReporter(() => undefined);
  return topic_config.read({ topic: { topic_id: 1, ...keys } }, { file: 'topic.conf', key: '', report }).topic;
}

test('a topic that says nothing gets the usual timing', (t) => {
  const options = coreOptions(topicOf({}));
  const { lease_ms, lease_margin_ms, heartbeat_ms, election_timeout_ms, retransmit_ms } = DEFAULT_CORE_OPTIONS;
  t.like(options, { lease_ms, lease_margin_ms, heartbeat_ms, election_timeout_ms, retransmit_ms });
  t.is(options.waiting_max, 200 * 20);
});

test('a long lease stretches the waits, within bounds, and is renewed five times', (t) => {
  const options = coreOptions(topicOf({ store_paxos_master_lease: 5_000 }));
  t.is(options.lease_ms, 5_000);
  t.is(options.heartbeat_ms, 1_000);
  t.is(options.election_timeout_ms, 2_000);
  t.true(options.lease_margin_ms >= 20 && options.lease_margin_ms <= 250);
});

test('a short lease keeps a usable margin', (t) => {
  const options = coreOptions(topicOf({ store_paxos_master_lease: 100 }));
  t.is(options.heartbeat_ms, 20);
  t.is(options.lease_margin_ms, DEFAULT_CORE_OPTIONS.lease_margin_ms);
});

test('any Add within the size limit fits into a command', (t) => {
  for (const items_byte_size_limit of [1, 2_097_152, 16_777_216]) {
    const options = coreOptions(topicOf({ items_byte_size_limit }));
    t.true(options.command_bytes_max > addBodyBytesMax(items_byte_size_limit));
    t.true(options.waiting_bytes_max >= options.command_bytes_max);
  }
});

test('the log that is held for others is bounded in entries by the topic, in bytes for all groups together', (t) => {
  t.like(checkpointOptions(topicOf({}), 1), { held_instances_max: 100_000, held_bytes_max: 512 * 1024 * 1024 });
  t.is(checkpointOptions(topicOf({}), 100).held_bytes_max * 100, 512 * 1024 * 1024);
  t.is(checkpointOptions(topicOf({ store_paxos_hold_log_count: 5 }), 1).held_instances_max, 5);
});
