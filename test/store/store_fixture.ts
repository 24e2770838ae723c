import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { loadStoreConf } from '../../src/ts/config/server_conf.js';
import { type Store, type StoreOptions, startStore } from '../../src/ts/store/store.js';
import { STORE_ID, TOPIC_ID } from './requests.js';

const HOST = '127.0.0.1';
/** Below the range from which the system takes ports for outgoing connections. */
const PORT_FIRST = 10_000;
const PORT_LAST = 30_000;
const POLL_MS = 10;
const SETTLE_WITHIN_MS = 20_000;

export interface StoreClusterOptions {
  readonly replicas: number;
  readonly groups?: number;
  /** More keys of the topic. */
  readonly topic?: Readonly<Record<string, unknown>>;
  /** More lines of the section [Store]. */
  readonly store_keys?: string;
}

interface Address {
  readonly ip: string;
  readonly port: number;
  readonly paxos_port: number;
}

/** Replicas of one store within this process, on loopback, with real files. Stopped and removed when the test ends. */
export class StoreCluster {
  readonly folder: string;
  readonly addresses: readonly Address[];
  /** What the replicas logged, e.g. `0 WARN ...`. */
  readonly lines: string[] = [];
  readonly fatal: unknown[] = [];
  readonly #stores = new Map<number, Store>();

  private constructor(folder: string, addresses: readonly Address[]) {
    this.folder = folder;
    this.addresses = addresses;
  }

  /** Writes the configuration; nothing runs yet. Topic 1000 has queues 0 to 9, pub 1 and consumer group 1. */
  static async prepare(t: ExecutionContext, options: StoreClusterOptions): Promise<StoreCluster> {
    const folder = await mkdtemp(join(tmpdir(), 'phxqueue-store-'));
    const ports = await freePorts(2 * options.replicas);
    const addresses = Array.from({ length: options.replicas }, (_, i) => ({
      ip: HOST,
      port: ports[2 * i] ?? 0,
      paxos_port: ports[2 * i + 1] ?? 0,
    }));
    const cluster = new StoreCluster(folder, addresses);
    t.teardown(async () => {
      await cluster.close();
      await rm(folder, { recursive: true, force: true });
    });
    await cluster.#writeFiles(options);
    return cluster;
  }

  /** Prepares and starts all replicas; resolves when each knows the master of each group. */
  static async start(t: ExecutionContext, options: StoreClusterOptions): Promise<StoreCluster> {
    const cluster = await StoreCluster.prepare(t, options);
    await cluster.startAll();
    return cluster;
  }

  async startAll(): Promise<void> {
    await Promise.all(this.addresses.map((_, i) => this.startOne(i)));
    await this.until('all replicas are ready', () => [...this.#stores.values()].every((store) => store.ready().ok));
  }

  async startOne(replica: number, options: Pick<StoreOptions, 'openLog'> = {}): Promise<Store> {
    const conf = loadStoreConf(this.confPath(replica));
    const say = (level: string) => (message: string) => void this.lines.push(`${replica} ${level} ${message}`);
    const logger = { info: say('INFO'), warn: say('WARN'), error: say('ERROR') };
    const store = await startStore(conf, { ...options, logger, onFatal: (error) => this.fatal.push(error) });
    this.#stores.set(replica, store);
    return store;
  }

  store(replica: number): Store {
    const store = this.#stores.get(replica);
    if (store === undefined) throw new Error(`replica ${replica} does not run`);
    return store;
  }

  confPath(replica: number): string {
    return join(this.folder, `store_server.${replica}.conf`);
  }

  dataFolder(replica: number): string {
    return join(this.folder, 'data', String(replica));
  }

  /** Stops all replicas as a crash would. */
  async haltAll(): Promise<void> {
    const stores = [...this.#stores.values()];
    this.#stores.clear();
    await Promise.all(stores.map((store) => store.halt()));
  }

  async close(): Promise<void> {
    const stores = [...this.#stores.values()];
    this.#stores.clear();
    await Promise.all(stores.map((store) => store.close()));
  }

  /** Waits until something holds. */
  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline_ms = performance.now() + SETTLE_WITHIN_MS;
    while (!(await holds())) {
      if (performance.now() > deadline_ms) throw new Error(`gave up waiting until ${what}\n${this.lines.join('\n')}`);
      await delay(POLL_MS);
    }
  }

  async #writeFiles({ groups, topic, store_keys }: StoreClusterOptions): Promise<void> {
    const path = (name: string): string => join(this.folder, name);
    const json = (name: string, value: unknown): Promise<void> => writeFile(path(name), JSON.stringify(value));
    await Promise.all([
      json('global.conf', {
        topic_infos: [
          {
            topic_id: TOPIC_ID,
            topic_name: 'test',
            topic_config_path: path('topic.conf'),
            store_config_path: path('store.conf'),
          },
        ],
      }),
      json('topic.conf', {
        topic: { topic_id: TOPIC_ID, handle_ids: [1, 2], ...topic },
        queue_infos: [{ queue_info_id: 1, ranges: ['0-9'] }],
        pubs: [{ pub_id: 1, consumer_group_ids: [1], queue_info_ids: [1] }],
        consumer_groups: [{ consumer_group_id: 1 }],
      }),
      json('store.conf', { stores: [{ store_id: STORE_ID, addrs: this.addresses, scale: 100, pub_ids: [1] }] }),
      ...this.addresses.map(({ ip, port, paxos_port }, i) =>
        writeFile(
          this.confPath(i),
          `[Server]
BindIP = ${ip}
Port = ${port}
PackageName = phxqueue_phxrpc.store
[Store]
Topic = test
DataDirPath = ${this.dataFolder(i)}
PhxQueueGlobalConfigPath = ${path('global.conf')}
PaxosPort = ${paxos_port}
NPaxosIOThread = 3
NGroup = ${groups ?? 1}
Engine = portable
${store_keys ?? ''}
[Admin]
Port = 0
`,
        ),
      ),
    ]);
  }
}

async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = PORT_FIRST + Math.floor(Math.random() * (PORT_LAST - PORT_FIRST));
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, HOST, () => server.close(() => resolve(true)));
  });
}
