import type { ConsumerConfig, StoreConfig, TopicFiles } from '../config/global_config.js';
import type { TopicConfig } from '../config/topic.js';
import { ConsumerRing } from '../protocol/ring.js';
import { type AssignedQueue, queueKey } from './assigned_queue.js';

/**
 * The queues that a consumer serves, by the configured weights: group by group ascending, within a group by store, pub,
 * place in the pub's chain, queue. All consumers compute the same owner for each queue.
 */
export function assignQueues(files: TopicFiles, own: ConsumerConfig): AssignedQueue[] {
  return groupsServed(files.topic, own).flatMap((consumer_group_id) => {
    const serves = (consumer: ConsumerConfig): boolean =>
      groupsServed(files.topic, consumer).includes(consumer_group_id);
    const ring = new ConsumerRing(files.consumers.filter(serves));
    return queuesOfGroup(files, consumer_group_id).filter(
      ({ store_id, queue_id }) => ring.owner(consumer_group_id, store_id, queue_id) === own,
    );
  });
}

/** Gives each of `nproc` workers its share, one queue after the other, so that none is left over. */
export function spreadQueues(queues: readonly AssignedQueue[], nproc: number): AssignedQueue[][] {
  const shares: AssignedQueue[][] = Array.from({ length: nproc }, () => []);
  for (const [position, queue] of queues.entries()) shares[position % nproc]?.push(queue);
  return shares;
}

/** The groups that a consumer serves, ascending: those it lists, or all, but none that the topic says to ignore. */
export function groupsServed({ consumer_groups, topic }: TopicConfig, consumer: ConsumerConfig): number[] {
  const listed = new Set(consumer.consumer_group_ids);
  const ignored = new Set(topic.consumer_ignore_consumer_group_ids);
  return consumer_groups
    .map(({ consumer_group_id }) => consumer_group_id)
    .filter((group) => (listed.size === 0 || listed.has(group)) && !ignored.has(group))
    .sort((a, b) => a - b);
}

/** All queues that a group consumes, each once. */
function queuesOfGroup({ topic, stores }: TopicFiles, consumer_group_id: number): AssignedQueue[] {
  const queues = new Map<string, AssignedQueue>();
  for (const { store_id, pub_ids } of [...stores].sort(byStoreId)) {
    const served = topic.pubs.filter(({ pub_id }) => pub_ids.length === 0 || pub_ids.includes(pub_id));
    for (const pub of [...served].sort((a, b) => a.pub_id - b.pub_id)) {
      if (!pub.consumer_group_ids.includes(consumer_group_id)) continue;
      for (const queue_id of topic.queuesOfPub(pub.pub_id)) {
        const queue = { consumer_group_id, store_id, queue_id };
        if (!queues.has(queueKey(queue))) queues.set(queueKey(queue), queue);
      }
    }
  }
  return [...queues.values()];
}

function byStoreId(a: StoreConfig, b: StoreConfig): number {
  return a.store_id - b.store_id;
}
