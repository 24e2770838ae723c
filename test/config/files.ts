import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A folder of its own for a test, gone when the test ends. */
export function temporaryFolder(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'phxqueue-config-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes files, given as text or as what JSON is made of, into a folder. */
export function writeFiles(folder: string, files: Readonly<Record<string, unknown>>): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  }
}

/** The files of a small topic, by name; `changes` replaces some of them. */
export function topicFiles(changes: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const addrs = [5100, 5200, 5300].map((port) => ({ ip: '127.0.0.1', port, paxos_port: port + 1 }));
  return {
    'global.conf': {
      topic_infos: [
        {
          topic_id: 7,
          topic_name: 'small',
          ...{
            topic_config_path: 'topic.conf',
            consumer_config_path: 'consumer.conf',
            store_config_path: 'store.conf',
          },
          ...{ scheduler_config_path: 'scheduler.conf', lock_config_path: 'lock.conf' },
        },
      ],
    },
    'topic.conf': topicFile(),
    'store.conf': { stores: [{ store_id: 1, addrs, scale: 100 }] },
    'consumer.conf': { consumers: [{ addr: { ip: '127.0.0.1', port: 8001 }, scale: 100 }] },
    'scheduler.conf': {},
    'lock.conf': {},
    ...changes,
  };
}

/** A topic's file: two pubs, a retry chain, two groups. `changes` replaces some of its lists. */
export function topicFile(changes: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    topic: { topic_id: 7, handle_ids: [1, 2] },
    queue_infos: [
      { queue_info_id: 1, ranges: ['10-19', '0-4'] },
      { queue_info_id: 2, ranges: ['20'], count: 3, delay: 5 },
      { queue_info_id: 3, ranges: ['30-31'], count: -1 },
    ],
    pubs: [
      { pub_id: 1, queue_info_ids: [1, 2, 3], consumer_group_ids: [2, 1] },
      { pub_id: 2, queue_info_ids: [2], consumer_group_ids: [3] },
    ],
    consumer_groups: [{ consumer_group_id: 1 }, { consumer_group_id: 2 }, { consumer_group_id: 3 }],
    ...changes,
  };
}
