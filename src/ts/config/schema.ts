/**
 * Every key of the six JSON files, with its type, its range and its default. docs/configuration.md says what each is
 * for. A default is that of the C++ original unless a comment says why it is not.
 */
import { flag, int32, ipv4, list, message, name, port, required, text, uint64, type ValueOf } from './fields.js';

/** Largest `items_byte_size_limit`: an Add has to fit well into a segment of the log. */
export const ITEMS_BYTES_MAX = 16 * 1024 * 1024;
/** Largest consumer group id: a group is a bit of a 64-bit mask. */
export const CONSUMER_GROUP_ID_MAX = 64;

const id = required(int32(0, { min: 1 }));
const group_id = int32(0, { min: 1, max: CONSUMER_GROUP_ID_MAX });
/** -1 stands for "any". */
const id_or_any = int32(-1, { min: -1 });
const percent = (fallback: number) => int32(fallback, { max: 100 });
const positive = (fallback: number) => int32(fallback, { min: 1 });

const addr = message({ ip: required(ipv4()), port: required(port()), paxos_port: port({ min: 0 }) });

const topic_info = message({
  topic_id: id,
  topic_name: name(),
  topic_config_path: name(),
  // An empty or missing path: the topic has none of these.
  consumer_config_path: text(),
  store_config_path: name(),
  scheduler_config_path: text(),
  lock_config_path: text(),
});
export const global_config = message({ topic_infos: required(list(topic_info)) });

// An absent scale is 0 in the original, and such a store or consumer is never chosen: nobody can have meant that.
const store = message({ store_id: id, addrs: required(list(addr)), scale: int32(100), pub_ids: list(int32()) });
export const store_config = message({ stores: list(store) });

const consumer = message({ addr, scale: int32(100), consumer_group_ids: list(group_id) });
export const consumer_config = message({ consumers: list(consumer) });

const scheduler = message({ addrs: list(addr) });
export const scheduler_config = message({ scheduler });

const lock = message({ lock_id: id, addrs: required(list(addr)), scale: int32(100) });
export const lock_config = message({ locks: list(lock) });

const topic = message({
  topic_id: id,
  handle_ids: list(int32()),
  items_byte_size_limit: int32(2_097_152, { min: 1, max: ITEMS_BYTES_MAX }),
  batch_limit: positive(100),

  store_make_cp_interval_s: int32(10),
  store_adjust_master_rate_time_interval_10s: int32(1),
  store_adjust_min_master_rate: percent(100),
  store_adjust_max_master_rate: percent(100),
  store_sync_interval_s: int32(5),
  store_adjust_master_rate_time_interval_s: int32(10),
  store_get_loop_max_time_ms: int32(20),
  store_paxos_propose_timeout_ms: positive(1500),
  store_paxos_max_hold_threads: int32(200),
  // 5000 in the original: a killed master is missed for as long as that. Leases here are renewed apart from the log.
  store_paxos_master_lease: int32(300, { min: 100, max: 600_000 }),
  store_paxos_propose_wait_time_threshold_ms: int32(800),
  store_paxos_log_sync: flag(1),
  store_paxos_batch_count: int32(20),
  store_paxos_batch_delay_time_ms: int32(20),
  store_paxos_fsync_interval: int32(0),
  store_paxos_oss_attr_id: int32(),
  store_paxos_oss_attr_id_usetime: int32(),
  store_paxos_hold_log_count: int32(100_000),

  consumer_lock_lease_time_s: positive(30),
  consumer_max_mem_size_mb_per_proc: int32(300),
  consumer_ignore_consumer_group_ids: list(group_id),
  consumer_lock_interval_s: positive(20),
  consumer_max_loop_per_proc: int32(0),

  producer_retry_switch_store: flag(1),
  producer_nretry_raw_add: int32(0, { max: 100 }),
  producer_retry_switch_queue: flag(1),
  producer_batch_delay_time_ms: int32(20),

  scheduler_get_scale_interval_s: positive(10),
  scheduler_strict: int32(0),
  scheduler_max_load: int32(80),
  scheduler_max_mean_load_percent: int32(150),
  scheduler_max_init_weight_percent: int32(200),
  scheduler_load_sticky: int32(5),
  scheduler_weight_sticky: int32(500),
  scheduler_load_balance_interval_s: positive(60),
  scheduler_lock_lease_time_s: positive(20),
  scheduler_renew_lock_interval_s: int32(5),
  scheduler_hash_keep_time_s: positive(20),
  scheduler_master_ip: text(),
  scheduler_master_port: port({ min: 0 }),
  scheduler_lock_key: text('__scheduler__.__master__'),
  scheduler_load_use_proc_used_ratio: int32(0),
  scheduler_use_init_weight: flag(1),

  lock_adjust_master_rate_time_interval_10s: int32(1),
  lock_adjust_min_master_rate: percent(100),
  lock_adjust_max_master_rate: percent(100),
  lock_adjust_master_rate_time_interval_s: int32(1),
  lock_paxos_propose_timeout_ms: positive(1500),
  lock_paxos_max_hold_threads: int32(200),
  // As for the store.
  lock_paxos_master_lease: int32(300, { min: 100, max: 600_000 }),
  lock_paxos_propose_wait_time_threshold_ms: int32(800),
  lock_paxos_log_sync: flag(1),
  lock_paxos_batch_count: int32(20),
  lock_paxos_batch_delay_time_ms: int32(20),
  lock_paxos_fsync_interval: int32(0),
  lock_paxos_nr_hold_log: int32(100_000),
  lock_paxos_oss_attr_id: int32(),
  lock_paxos_oss_attr_id_usetime: int32(),
  use_new_hash: int32(),
});

const queue_info = message({
  queue_info_id: id,
  ranges: list(text()),
  handle_by_random_uin: flag(0),
  freq_limit: int32(),
  freq_interval: int32(),
  sleep_us_per_get: int32(0),
  // 1 s in the original: a consumer would stay away 1 to 2 s after a change of master, which takes about half a second.
  sleep_us_on_get_fail: int32(200_000),
  sleep_us_on_get_no_item: int32(200_000),
  sleep_us_on_get_size_too_small: int32(20_000),
  get_size_too_small_threshold: int32(5),
  drop_all: flag(0),
  delay: int32(),
  count: int32(1, { min: -1 }),
});

const pub = message({ pub_id: id, queue_info_ids: list(int32()), consumer_group_ids: list(group_id) });

const consumer_group = message({
  consumer_group_id: required(group_id),
  use_dynamic_scale: flag(1),
  skip_lock: flag(0),
});

const skip_info = message({
  uin: uint64(0n),
  pub_id: id_or_any,
  consumer_group_id: int32(-1, { min: -1, max: CONSUMER_GROUP_ID_MAX }),
  queue_info_id: id_or_any,
  handle_id: id_or_any,
});

const freq_info = message({
  pub_id: id,
  consumer_group_id: required(group_id),
  handle_id: id_or_any,
  limit_per_min: int32(),
  queue_info_id: id,
});

const replay_info = message({
  consumer_group_ids: list(group_id),
  pub_ids: list(int32()),
  cursor_id: uint64(0xffff_ffff_ffff_ffffn),
  timestamp: uint64(0n),
});

export const topic_config = message({
  topic,
  queue_infos: list(queue_info),
  pubs: list(pub),
  consumer_groups: list(consumer_group),
  skip_infos: list(skip_info),
  freq_infos: list(freq_info),
  replay_infos: list(replay_info),
});

export type TopicInfo = ValueOf<typeof topic_info>;
/** One store: its replicas in order, its weight on the producers' ring, the pubs it serves (none: all). */
export type StoreConfig = ValueOf<typeof store>;
/** One consumer: its identity, its weight, the groups that it serves (none: all). */
export type ConsumerConfig = ValueOf<typeof consumer>;
export type LockConfig = ValueOf<typeof lock>;
export type SchedulerConfig = ValueOf<typeof scheduler>;
export type Topic = ValueOf<typeof topic>;
export type QueueInfo = ValueOf<typeof queue_info>;
export type Pub = ValueOf<typeof pub>;
export type ConsumerGroup = ValueOf<typeof consumer_group>;
export type SkipInfo = ValueOf<typeof skip_info>;
export type FreqInfo = ValueOf<typeof freq_info>;
export type ReplayInfo = ValueOf<typeof replay_info>;
/** The whole of a topic's file. */
export type TopicFile = ValueOf<typeof topic_config>;
