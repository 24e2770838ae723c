/** The global configuration file and the five files that it names for each topic, loaded and checked together. */
import { checkTopic } from './check_topic.js';
import type { Field } from './fields.js';
import { type LoadOptions, readJsonFile, reporterOf } from './json_file.js';
import { nearestName } from './nearest.js';
import { configError, type Place, type Reporter } from './report.js';
import {
  type ConsumerConfig,
  consumer_config,
  global_config,
  type LockConfig,
  lock_config,
  type SchedulerConfig,
  type StoreConfig,
  scheduler_config,
  store_config,
  type TopicInfo,
  topic_config,
} from './schema.js';
import { firstById, TopicConfig } from './topic.js';

export type { LoadOptions } from './json_file.js';
export type { ConsumerConfig, LockConfig, SchedulerConfig, StoreConfig, TopicInfo } from './schema.js';

/** All configuration of one topic. */
export interface TopicFiles {
  /** Name, id and the paths of the files, as given. */
  readonly info: TopicInfo;
  readonly topic: TopicConfig;
  /** As listed; where an id is given twice, the first one. */
  readonly stores: readonly StoreConfig[];
  readonly consumers: readonly ConsumerConfig[];
  readonly scheduler: SchedulerConfig;
  readonly locks: readonly LockConfig[];
}

/** All topics. Immutable. */
export class GlobalConfig {
  readonly file: string;
  readonly topics: readonly TopicFiles[];
  readonly #by_name: ReadonlyMap<string, TopicFiles>;
  readonly #by_id: ReadonlyMap<number, TopicFiles>;

  constructor(file: string, topics: readonly TopicFiles[]) {
    this.file = file;
    this.topics = topics;
    this.#by_name = new Map(topics.map((topic) => [topic.info.topic_name, topic]));
    this.#by_id = new Map(topics.map((topic) => [topic.info.topic_id, topic]));
  }

  topicByName(name: string): TopicFiles | undefined {
    return this.#by_name.get(name);
  }

  topicById(topic_id: number): TopicFiles | undefined {
    return this.#by_id.get(topic_id);
  }

  /** The topic that a file names at `at`. Throws PhxError CONFIG if there is none of that name. */
  requireTopic(name: string, at: Place): TopicFiles {
    const topic = this.#by_name.get(name);
    if (topic !== undefined) return topic;
    const nearest = nearestName(name, this.#by_name.keys());
    const hint = nearest === undefined ? '' : ` (did you mean ${nearest}?)`;
    throw configError(at, `there is no topic ${JSON.stringify(name)}${hint}`, `add it to ${this.file} or name another`);
  }
}

/**
 * Loads the global configuration file and all files that it names; paths are relative to `base`, by default to the
 * working directory. Throws PhxError CONFIG, with one line that says file, key, what is wrong and what to do.
 */
export function loadGlobalConfig(path: string, options: LoadOptions = {}): GlobalConfig {
  return readGlobalConfig(path, options.base, reporterOf(options));
}

/** As `loadGlobalConfig`, for a reporter of the caller's. What could not be read is left out or has its defaults. */
export function readGlobalConfig(path: string, base: string | undefined, report: Reporter): GlobalConfig {
  const file = readFile(path, global_config, base, report);
  const infos = file?.topic_infos ?? [];
  const at = { file: path, key: 'topic_infos' };
  if (file !== null && infos.length === 0) report.error(at, 'has no topic', 'add one');
  const by_id = firstById(infos, (info) => info.topic_id, at, report);
  const names = new Set<string>();
  const topics: TopicFiles[] = [];
  for (const [i, info] of infos.entries()) {
    if (by_id.get(info.topic_id) !== info) continue;
    const key = `topic_infos[${i}]`;
    if (names.has(info.topic_name)) {
      const place = { file: path, key: `${key}.topic_name` };
      report.oversight(place, `${JSON.stringify(info.topic_name)} is given twice`, 'give each topic a name of its own');
      continue;
    }
    names.add(info.topic_name);
    const topic = readTopic(info, { file: path, key }, base, report);
    if (topic !== null) topics.push(topic);
  }
  return new GlobalConfig(path, topics);
}

function readTopic(info: TopicInfo, at: Place, base: string | undefined, report: Reporter): TopicFiles | null {
  const namedAt = (key: string): Place => ({ file: at.file, key: `${at.key}.${key}` });
  const topic_file = readNamed(info.topic_config_path, topic_config, base, report, namedAt('topic_config_path'));
  if (topic_file === null) return null;
  const topic_at = { file: info.topic_config_path, key: '' };
  if (topic_file.topic.topic_id !== info.topic_id) {
    const what = `is ${topic_file.topic.topic_id}, but ${at.file} says ${info.topic_id}`;
    report.error({ ...topic_at, key: 'topic.topic_id' }, what, 'make the two equal');
  }
  const topic = new TopicConfig(topic_file, topic_at, report);
  const stores = readNamed(info.store_config_path, store_config, base, report, namedAt('store_config_path'));
  const consumers = readNamed(
    info.consumer_config_path,
    consumer_config,
    base,
    report,
    namedAt('consumer_config_path'),
  );
  const scheduler = readNamed(
    info.scheduler_config_path,
    scheduler_config,
    base,
    report,
    namedAt('scheduler_config_path'),
  );
  const locks = readNamed(info.lock_config_path, lock_config, base, report, namedAt('lock_config_path'));
  const stores_at = { file: info.store_config_path, key: 'stores' };
  const locks_at = { file: info.lock_config_path, key: 'locks' };
  const files: TopicFiles = {
    info,
    topic,
    stores: [...firstById(stores?.stores ?? [], (store) => store.store_id, stores_at, report).values()],
    consumers: consumers?.consumers ?? [],
    scheduler: scheduler?.scheduler ?? { addrs: [] },
    locks: [...firstById(locks?.locks ?? [], (lock) => lock.lock_id, locks_at, report).values()],
  };
  checkTopic(files, report);
  return files;
}

/** As `readFile`; null too where no path is given. */
function readNamed<T>(path: string, schema: Field<T>, base: string | undefined, report: Reporter, at: Place): T | null {
  return path === '' ? null : readFile(path, schema, base, report, at);
}

function readFile<T>(
  file: string,
  schema: Field<T>,
  base: string | undefined,
  report: Reporter,
  named_at?: Place,
): T | null {
  const value = readJsonFile(file, base, report, named_at);
  return value === undefined ? null : schema.read(value, { file, key: '', report });
}
