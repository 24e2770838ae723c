/** What the files of a topic must fulfil together, beyond each value by itself. */
import type { TopicFiles } from './global_config.js';
import type { Place, Reporter } from './report.js';
import type { StoreConfig } from './schema.js';

/** Queue ids that a C++ store takes. */
const CPP_QUEUE_ID_MAX = 1999;

/** Reports what is wrong with a topic. */
export function checkTopic(files: TopicFiles, report: Reporter): void {
  const topic_at = (key: string): Place => ({ file: files.info.topic_config_path, key });
  checkTopicNumbers(files, topic_at, report);
  checkQueueInfos(files, topic_at, report);
  checkPubs(files, topic_at, report);
  checkRules(files, topic_at, report);
  checkStores(files, report);
  checkConsumers(files, report);
  checkEndpoints(files, report);
}

type TopicPlace = (key: string) => Place;

function checkTopicNumbers({ topic: { topic } }: TopicFiles, at: TopicPlace, report: Reporter): void {
  for (const [key, value] of [
    ['store_paxos_log_sync', topic.store_paxos_log_sync],
    ['lock_paxos_log_sync', topic.lock_paxos_log_sync],
  ] as const) {
    const fix = 'remove it; only [Store] UnsafeNoSync of a server gives durability up';
    if (value === 0) report.warning(at(`topic.${key}`), '0 is ignored, every write is synced', fix);
  }
  for (const [key, value] of [
    ['store_paxos_fsync_interval', topic.store_paxos_fsync_interval],
    ['lock_paxos_fsync_interval', topic.lock_paxos_fsync_interval],
  ] as const) {
    if (value > 0) report.warning(at(`topic.${key}`), `${value} is ignored, every write is synced`, 'remove it');
  }
  if (topic.consumer_lock_interval_s >= topic.consumer_lock_lease_time_s) {
    const what = `${topic.consumer_lock_interval_s} s is not below consumer_lock_lease_time_s (${topic.consumer_lock_lease_time_s} s)`;
    report.oversight(at('topic.consumer_lock_interval_s'), what, 'renew locks before they run out');
  }
  if ((topic.scheduler_master_ip === '') !== (topic.scheduler_master_port === 0)) {
    const what = 'scheduler_master_ip and scheduler_master_port work only together';
    report.oversight(at('topic.scheduler_master_ip'), what, 'give both or neither');
  }
  const handles = new Set<number>();
  for (const [i, handle_id] of topic.handle_ids.entries()) {
    if (handles.has(handle_id)) {
      report.oversight(at(`topic.handle_ids[${i}]`), `handle ${handle_id} is given twice`, 'remove one of the two');
    }
    handles.add(handle_id);
  }
}

function checkQueueInfos({ topic }: TopicFiles, at: TopicPlace, report: Reporter): void {
  const used = new Set(topic.pubs.flatMap((pub) => pub.queue_info_ids));
  for (const [i, info] of topic.queue_infos.entries()) {
    const key = `queue_infos[${i}]`;
    const queues = topic.queuesOf(info.queue_info_id);
    if (queues.length === 0) report.oversight(at(`${key}.ranges`), 'has no queue', 'add a range such as "0-9"');
    const strays = new Set<number>();
    const seen = new Set<number>();
    for (const queue_id of queues) {
      const owner = topic.queueInfoByQueue(queue_id);
      if (owner !== info) strays.add(owner?.queue_info_id ?? 0);
      else if (seen.has(queue_id)) strays.add(info.queue_info_id);
      seen.add(queue_id);
    }
    for (const other of strays) {
      const where = other === info.queue_info_id ? 'itself' : `queue_info ${other}`;
      report.oversight(at(`${key}.ranges`), `overlaps with ${where}`, 'give each queue to one range');
    }
    const last = queues.at(-1) ?? 0;
    if (last > CPP_QUEUE_ID_MAX) {
      const what = `queue ${last} is above ${CPP_QUEUE_ID_MAX}, which stores of the C++ original cannot hold`;
      report.warning(at(`${key}.ranges`), what, 'use smaller ids if such stores take part');
    }
    if (info.count === 0) report.oversight(at(`${key}.count`), 'is 0, so no item comes here', 'give 1 or more, or -1');
    if (!used.has(info.queue_info_id)) report.warning(at(key), 'no pub uses it', 'name it in a pub or remove it');
  }
}

function checkPubs({ topic, stores }: TopicFiles, at: TopicPlace, report: Reporter): void {
  if (topic.pubs.length === 0) report.oversight(at('pubs'), 'there is no pub, so nothing can be enqueued', 'add one');
  for (const [i, pub] of topic.pubs.entries()) {
    const key = `pubs[${i}]`;
    if (pub.queue_info_ids.length === 0) {
      report.error(at(`${key}.queue_info_ids`), 'is empty, so items have nowhere to go', 'name a queue_info');
    }
    for (const [j, queue_info_id] of pub.queue_info_ids.entries()) {
      const info = topic.queueInfo(queue_info_id);
      const place = at(`${key}.queue_info_ids[${j}]`);
      if (info === undefined) report.error(place, `there is no queue_info ${queue_info_id}`, 'add it to queue_infos');
      else if (info.count === -1 && j < pub.queue_info_ids.length - 1) {
        report.oversight(place, 'has count -1, so nothing gets past it', 'make it the last one of the chain');
      }
      if (pub.queue_info_ids.indexOf(queue_info_id) < j) {
        report.oversight(place, `queue_info ${queue_info_id} is given twice`, 'remove one of the two');
      }
    }
    if (pub.consumer_group_ids.length === 0) {
      report.warning(at(`${key}.consumer_group_ids`), 'is empty, so nobody consumes this pub', 'name a consumer group');
    }
    for (const [j, group] of pub.consumer_group_ids.entries()) {
      if (topic.consumerGroup(group) !== undefined) continue;
      const place = at(`${key}.consumer_group_ids[${j}]`);
      report.error(place, `there is no consumer group ${group}`, 'add it to consumer_groups');
    }
    if (!stores.some((store) => serves(store, pub.pub_id) && store.scale > 0)) {
      report.oversight(
        at(key),
        `no store with a scale above 0 serves pub ${pub.pub_id}`,
        'add it to the pub_ids of one',
      );
    }
  }
}

function serves(store: StoreConfig, pub_id: number): boolean {
  return store.pub_ids.length === 0 || store.pub_ids.includes(pub_id);
}

/** The ids that rules of rate limits, skipping and replay refer to. */
function checkRules({ topic }: TopicFiles, at: TopicPlace, report: Reporter): void {
  const known = {
    pub_id: (id: number) => topic.pub(id) !== undefined,
    consumer_group_id: (id: number) => topic.consumerGroup(id) !== undefined,
    queue_info_id: (id: number) => topic.queueInfo(id) !== undefined,
    handle_id: (id: number) => topic.handleRank(id) !== undefined,
  };
  const checkRule = (rule: Readonly<Record<keyof typeof known, number>>, key: string): void => {
    for (const field of ['pub_id', 'consumer_group_id', 'queue_info_id', 'handle_id'] as const) {
      if (rule[field] === -1 || known[field](rule[field])) continue;
      report.oversight(at(`${key}.${field}`), `there is no ${field} ${rule[field]}`, 'correct it or remove the rule');
    }
  };
  for (const [i, rule] of topic.skip_infos.entries()) checkRule(rule, `skip_infos[${i}]`);
  for (const [i, rule] of topic.freq_infos.entries()) {
    const key = `freq_infos[${i}]`;
    checkRule(rule, key);
    const pub = topic.pub(rule.pub_id);
    if (pub !== undefined && !pub.consumer_group_ids.includes(rule.consumer_group_id)) {
      const what = `group ${rule.consumer_group_id} does not consume pub ${rule.pub_id}`;
      report.oversight(at(`${key}.consumer_group_id`), what, 'correct it or remove the rule');
    }
  }
  for (const [i, rule] of topic.replay_infos.entries()) {
    for (const field of ['pub_ids', 'consumer_group_ids'] as const) {
      const isKnown = field === 'pub_ids' ? known.pub_id : known.consumer_group_id;
      for (const id of rule[field]) {
        if (isKnown(id)) continue;
        const what = `there is no ${field.slice(0, -1)} ${id}`;
        report.oversight(at(`replay_infos[${i}].${field}`), what, 'correct it or remove the rule');
      }
    }
  }
}

function checkStores({ info, stores, locks }: TopicFiles, report: Reporter): void {
  const clusters = [
    { file: info.store_config_path, key: 'stores', members: stores },
    { file: info.lock_config_path, key: 'locks', members: locks },
  ];
  if (stores.length === 0) {
    report.error({ file: info.store_config_path, key: 'stores' }, 'there is no store', 'add one with its addresses');
  }
  for (const { file, key, members } of clusters) {
    for (const [i, { addrs }] of members.entries()) {
      const place = { file, key: `${key}[${i}].addrs` };
      if (addrs.length === 0) report.error(place, 'is empty', 'list the replicas');
      else if (addrs.length % 2 === 0) {
        const fix = `${addrs.length - 1} survive as many failures`;
        report.warning(place, `has an even number of replicas, ${addrs.length}`, fix);
      }
      for (const [j, { paxos_port }] of addrs.entries()) {
        if (paxos_port > 0) continue;
        report.error({ file, key: `${place.key}[${j}].paxos_port` }, 'missing', 'add the port for the other replicas');
      }
    }
  }
}

function checkConsumers({ info, topic, consumers }: TopicFiles, report: Reporter): void {
  for (const [i, consumer] of consumers.entries()) {
    const at = (key: string): Place => ({ file: info.consumer_config_path, key: `consumers[${i}].${key}` });
    if (consumer.addr.paxos_port !== 0) {
      report.error(at('addr.paxos_port'), 'a consumer has none', 'remove it');
    }
    for (const [j, group] of consumer.consumer_group_ids.entries()) {
      if (topic.consumerGroup(group) !== undefined) continue;
      const what = `there is no consumer group ${group}`;
      report.oversight(at(`consumer_group_ids[${j}]`), what, `add it to ${info.topic_config_path} or remove it here`);
    }
  }
}

/** No two servers listen on one address, no two consumers share an identity. */
function checkEndpoints({ info, stores, locks, scheduler, consumers }: TopicFiles, report: Reporter): void {
  const listening = new Map<string, Place>();
  const identities = new Map<string, Place>();
  const claim = (taken: Map<string, Place>, ip: string, port: number, place: Place): void => {
    const endpoint = `${ip}:${port}`;
    const other = taken.get(endpoint);
    if (other === undefined) taken.set(endpoint, place);
    else report.oversight(place, `${endpoint} is also that of ${other.key} in ${other.file}`, 'give each its own');
  };
  for (const { file, key, members } of [
    { file: info.store_config_path, key: 'stores', members: stores },
    { file: info.lock_config_path, key: 'locks', members: locks },
    { file: info.scheduler_config_path, key: 'scheduler', members: [scheduler] },
  ]) {
    for (const [i, { addrs }] of members.entries()) {
      for (const [j, { ip, port, paxos_port }] of addrs.entries()) {
        const where = `${key === 'scheduler' ? key : `${key}[${i}]`}.addrs[${j}]`;
        claim(listening, ip, port, { file, key: `${where}.port` });
        if (paxos_port > 0) claim(listening, ip, paxos_port, { file, key: `${where}.paxos_port` });
      }
    }
  }
  for (const [i, { addr }] of consumers.entries()) {
    claim(identities, addr.ip, addr.port, { file: info.consumer_config_path, key: `consumers[${i}].addr` });
  }
}
