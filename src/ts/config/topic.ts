import { queuesOfRanges } from './queue_ranges.js';
import type { Place, Reporter } from './report.js';
import type { ConsumerGroup, FreqInfo, Pub, QueueInfo, ReplayInfo, SkipInfo, Topic, TopicFile } from './schema.js';

export type { ConsumerGroup, FreqInfo, Pub, QueueInfo, ReplayInfo, SkipInfo, Topic } from './schema.js';

/** What a skip rule looks at. */
export interface SkipCandidate {
  readonly uin: bigint;
  readonly pub_id: number;
  readonly consumer_group_id: number;
  readonly queue_id: number;
  readonly handle_id: number;
}

/**
 * The configuration of a topic, with all lookups prepared. Immutable. Where an id is given twice, the first one counts;
 * a queue in two queue_infos belongs to the last one of them.
 */
export class TopicConfig {
  readonly topic: Topic;
  readonly queue_infos: readonly QueueInfo[];
  readonly pubs: readonly Pub[];
  readonly consumer_groups: readonly ConsumerGroup[];
  readonly skip_infos: readonly SkipInfo[];
  readonly freq_infos: readonly FreqInfo[];
  readonly replay_infos: readonly ReplayInfo[];
  readonly #queue_infos: ReadonlyMap<number, QueueInfo>;
  readonly #pubs: ReadonlyMap<number, Pub>;
  readonly #consumer_groups: ReadonlyMap<number, ConsumerGroup>;
  readonly #queues = new Map<number, readonly number[]>();
  readonly #info_of_queue = new Map<number, QueueInfo>();
  readonly #pubs_of_info = new Map<number, Pub[]>();
  readonly #groups_of_info = new Map<number, readonly number[]>();
  readonly #handle_ranks: ReadonlyMap<number, number>;

  /** `at` is the place of the file: bad ranges and ids given twice are reported there. */
  constructor(file: TopicFile, at: Place, report: Reporter) {
    this.topic = file.topic;
    this.skip_infos = file.skip_infos;
    this.freq_infos = file.freq_infos;
    this.replay_infos = file.replay_infos;
    this.#queue_infos = firstById(file.queue_infos, (info) => info.queue_info_id, childOf(at, 'queue_infos'), report);
    this.#pubs = firstById(file.pubs, (pub) => pub.pub_id, childOf(at, 'pubs'), report);
    this.#consumer_groups = firstById(
      file.consumer_groups,
      (group) => group.consumer_group_id,
      childOf(at, 'consumer_groups'),
      report,
    );
    this.queue_infos = [...this.#queue_infos.values()];
    this.pubs = [...this.#pubs.values()];
    this.consumer_groups = [...this.#consumer_groups.values()];
    const { handle_ids } = this.topic;
    this.#handle_ranks = new Map(handle_ids.map((handle_id, rank): [number, number] => [handle_id, rank]).reverse());
    for (const [i, info] of file.queue_infos.entries()) {
      if (this.#queue_infos.get(info.queue_info_id) !== info) continue;
      this.#addQueueInfo(info, queuesOfRanges(info.ranges, childOf(at, `queue_infos[${i}].ranges`), report));
    }
  }

  #addQueueInfo(info: QueueInfo, queues: readonly number[]): void {
    const { queue_info_id } = info;
    this.#queues.set(queue_info_id, queues);
    for (const queue_id of queues) this.#info_of_queue.set(queue_id, info);
    const pubs = this.pubs.filter((pub) => pub.queue_info_ids.includes(queue_info_id));
    this.#pubs_of_info.set(queue_info_id, pubs);
    const ignored = new Set(this.topic.consumer_ignore_consumer_group_ids);
    const groups = new Set(pubs.flatMap((pub) => pub.consumer_group_ids).filter((group) => !ignored.has(group)));
    this.#groups_of_info.set(
      queue_info_id,
      [...groups].sort((a, b) => a - b),
    );
  }

  pub(pub_id: number): Pub | undefined {
    return this.#pubs.get(pub_id);
  }

  consumerGroup(consumer_group_id: number): ConsumerGroup | undefined {
    return this.#consumer_groups.get(consumer_group_id);
  }

  queueInfo(queue_info_id: number): QueueInfo | undefined {
    return this.#queue_infos.get(queue_info_id);
  }

  /** The queue_info that a queue belongs to. */
  queueInfoByQueue(queue_id: number): QueueInfo | undefined {
    return this.#info_of_queue.get(queue_id);
  }

  /**
   * The queue_info of a pub's chain where an item belongs that was delivered `count` times in vain. Undefined if there
   * is no such pub or the chain is at its end.
   */
  queueInfoByCount(pub_id: number, count: number): QueueInfo | undefined {
    let left = count;
    for (const queue_info_id of this.#pubs.get(pub_id)?.queue_info_ids ?? []) {
      const info = this.#queue_infos.get(queue_info_id);
      if (info === undefined) continue;
      if (info.count === -1 || left < info.count) return info;
      left -= info.count;
    }
    return undefined;
  }

  /** The queue ids of a queue_info: its ranges one after the other, ascending. Empty if there is no such queue_info. */
  queuesOf(queue_info_id: number): readonly number[] {
    return this.#queues.get(queue_info_id) ?? [];
  }

  /** The queue at place `rank`, counted round and round, of a queue_info. Undefined if it has no queues. */
  queueByRank(queue_info_id: number, rank: number): number | undefined {
    const queues = this.queuesOf(queue_info_id);
    return queues[rank % queues.length];
  }

  /** All queues of a pub's chain, each once, in the order of the chain. */
  queuesOfPub(pub_id: number): readonly number[] {
    return [...new Set(this.#pubs.get(pub_id)?.queue_info_ids.flatMap((info_id) => this.queuesOf(info_id)))];
  }

  /** Whether a pub (any, or that one) uses the queue and has a consumer group (any, or that one). */
  isValidQueue(queue_id: number, pub_id = -1, consumer_group_id = -1): boolean {
    const info = this.#info_of_queue.get(queue_id);
    if (info === undefined) return false;
    const pubs = this.#pubs_of_info.get(info.queue_info_id) ?? [];
    return pubs.some(
      (pub) =>
        (pub_id === -1 || pub.pub_id === pub_id) &&
        (consumer_group_id === -1 || pub.consumer_group_ids.includes(consumer_group_id)),
    );
  }

  /** Groups that consume some pub of the queue, ascending, without those that the topic says to ignore. */
  groupsOfQueue(queue_id: number): readonly number[] {
    const info = this.#info_of_queue.get(queue_id);
    return info === undefined ? [] : (this.#groups_of_info.get(info.queue_info_id) ?? []);
  }

  /** Place of a handler in the topic's list; undefined if it is not there. */
  handleRank(handle_id: number): number | undefined {
    return this.#handle_ranks.get(handle_id);
  }

  /** Whether a skip rule takes this item away from this group. */
  isSkipped(candidate: SkipCandidate): boolean {
    if (this.skip_infos.length === 0) return false;
    const queue_info_id = this.#info_of_queue.get(candidate.queue_id)?.queue_info_id;
    return this.skip_infos.some(
      (rule) =>
        (rule.uin === 0n || rule.uin === candidate.uin) &&
        (rule.pub_id === -1 || rule.pub_id === candidate.pub_id) &&
        (rule.consumer_group_id === -1 || rule.consumer_group_id === candidate.consumer_group_id) &&
        (rule.queue_info_id === -1 || rule.queue_info_id === queue_info_id) &&
        (rule.handle_id === -1 || rule.handle_id === candidate.handle_id),
    );
  }
}

/** The elements by id; what is given twice is reported, and the first one counts. */
export function firstById<T>(
  elements: readonly T[],
  idOf: (element: T) => number,
  at: Place,
  report: Reporter,
): ReadonlyMap<number, T> {
  const found = new Map<number, T>();
  for (const [i, element] of elements.entries()) {
    const id = idOf(element);
    if (found.has(id)) report.oversight(childOf(at, `[${i}]`), `id ${id} is given twice`, 'remove one of the two');
    else found.set(id, element);
  }
  return found;
}

function childOf(at: Place, key: string): Place {
  const joined = at.key === '' || key.startsWith('[') ? `${at.key}${key}` : `${at.key}.${key}`;
  return { file: at.file, key: joined };
}
