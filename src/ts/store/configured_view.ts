import type { TopicFiles } from '../config/global_config.js';
import { findStore } from '../config/own_address.js';
import type { StoreConfig } from '../config/schema.js';
import type { Replica } from '../paxos/replicated_log.js';
import type { ItemFields } from '../protocol/add_request.js';
import type { StoreAddress, StoreView } from './store_view.js';

/** Items of one Add, unless the topic's `batch_limit` allows more. */
const ADD_ITEMS_MAX = 10_000;

/** The view of a store whose replica has the address `own`, from one load of the topic's files. */
export class ConfiguredView implements StoreView {
  readonly topic_id: number;
  readonly store_id: number | null;
  readonly items_byte_size_limit: number;
  readonly items_max: number;
  readonly get_loop_max_time_ms: number;
  readonly #files: TopicFiles;
  readonly #store: StoreConfig | null;
  readonly #groups_of_queue = new Map<number, readonly number[]>();

  constructor(files: TopicFiles, own: { readonly ip: string; readonly port: number }) {
    const { topic } = files.topic;
    this.#files = files;
    this.#store = findStore(files, own.ip, own.port)?.store ?? null;
    this.topic_id = topic.topic_id;
    this.store_id = this.#store?.store_id ?? null;
    this.items_byte_size_limit = topic.items_byte_size_limit;
    this.items_max = Math.max(ADD_ITEMS_MAX, topic.batch_limit);
    this.get_loop_max_time_ms = topic.store_get_loop_max_time_ms;
  }

  isValidQueue(queue_id: number): boolean {
    return this.#files.topic.isValidQueue(queue_id);
  }

  groupsOf(queue_id: number): readonly number[] {
    let groups = this.#groups_of_queue.get(queue_id);
    if (groups === undefined) {
      groups = this.#findGroups(queue_id);
      this.#groups_of_queue.set(queue_id, groups);
    }
    return groups;
  }

  addressOf({ host, paxos_port }: Replica): StoreAddress | null {
    return this.#store?.addrs.find((addr) => addr.ip === host && addr.paxos_port === paxos_port) ?? null;
  }

  skips({ uin, pub_id, handle_id }: ItemFields, queue_id: number, consumer_group_id: number): boolean {
    return this.#files.topic.isSkipped({ uin, pub_id, handle_id, queue_id, consumer_group_id });
  }

  /** Consumers read a queue of this store only for groups of the pubs that it serves: the others never acknowledge here. */
  #findGroups(queue_id: number): readonly number[] {
    const { topic } = this.#files;
    const pub_ids = this.#store?.pub_ids ?? [];
    const groups = topic.groupsOfQueue(queue_id);
    if (pub_ids.length === 0) return groups;
    return groups.filter((group) => pub_ids.some((pub_id) => topic.isValidQueue(queue_id, pub_id, group)));
  }
}
