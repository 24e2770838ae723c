import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { FakeStore } from './fake_store.js';

export const TOPIC_ID = 1000;
export const CONSUMER_PORT = 8001;

export interface DeploymentOptions {
  /** How many stores of three replicas each. */
  readonly stores?: number;
  /** Fields of the topic, in addition to its id. */
  readonly topic?: Readonly<Record<string, unknown>>;
  readonly queue_infos?: readonly Readonly<Record<string, unknown>>[];
  readonly pubs?: readonly Readonly<Record<string, unknown>>[];
  readonly consumer_groups?: readonly Readonly<Record<string, unknown>>[];
  /** Pubs that each store serves; by default all. */
  readonly pub_ids?: readonly (readonly number[])[];
}

/** Stores in memory and the configuration files that name them, in a folder of their own. */
export interface Deployment {
  readonly folder: string;
  readonly global_config_path: string;
  readonly stores: readonly FakeStore[];
  readonly store: FakeStore;
}

/** A queue_info whose consumers do not rest between Gets for long. */
export function quickQueue(queue_info_id: number, range: string, more: Readonly<Record<string, unknown>> = {}) {
  const sleeps = { sleep_us_on_get_no_item: 5_000, sleep_us_on_get_fail: 5_000, sleep_us_on_get_size_too_small: 0 };
  return { queue_info_id, ranges: [range], ...sleeps, ...more };
}

/** Starts the stores and writes the files; all of it is gone when the test ends. */
export async function deploy(t: ExecutionContext, options: DeploymentOptions = {}): Promise<Deployment> {
  const folder = mkdtempSync(join(tmpdir(), 'phxqueue-clients-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const stores: FakeStore[] = [];
  for (let n = 0; n < (options.stores ?? 1); n += 1) {
    const store = await FakeStore.start(n + 1);
    stores.push(store);
    t.teardown(() => store.stop());
  }
  const [store] = stores;
  if (store === undefined) throw new Error('a deployment has a store');
  mkdirSync(join(folder, 'etc'));
  const path = (name: string): string => join(folder, 'etc', name);
  const write = (name: string, content: unknown): void => writeFileSync(path(name), JSON.stringify(content));
  write('globalconfig.conf', {
    topic_infos: [
      {
        topic_id: TOPIC_ID,
        topic_name: 'test',
        topic_config_path: path('topic.conf'),
        store_config_path: path('store.conf'),
        consumer_config_path: path('consumer.conf'),
      },
    ],
  });
  write('topic.conf', {
    topic: { topic_id: TOPIC_ID, handle_ids: [1, 2], ...options.topic },
    queue_infos: options.queue_infos ?? [quickQueue(1, '0')],
    pubs: options.pubs ?? [{ pub_id: 1, queue_info_ids: [1], consumer_group_ids: [1] }],
    consumer_groups: options.consumer_groups ?? [{ consumer_group_id: 1, use_dynamic_scale: 0, skip_lock: 1 }],
  });
  write('store.conf', {
    stores: stores.map(({ store_id, addrs }, n) => ({
      store_id,
      addrs,
      scale: 100,
      pub_ids: options.pub_ids?.[n] ?? [],
    })),
  });
  write('consumer.conf', { consumers: [{ addr: { ip: '127.0.0.1', port: CONSUMER_PORT }, scale: 100 }] });
  return { folder, global_config_path: path('globalconfig.conf'), stores, store };
}
