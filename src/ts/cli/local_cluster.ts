/**
 * A whole deployment on this machine: stores and consumers as processes of their own on loopback, with configuration,
 * data and logs in one folder. The demonstration, the benchmarks and the cluster tests stand on it.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { assert, PhxError } from '../errors.js';
import { ServerProcess } from './server_process.js';

/** How long a server may take until it serves, in milliseconds; generous because machines can be slow. */
export const READY_WITHIN_MS = 30_000;

const HOST = '127.0.0.1';
const TOPIC = 'test';
const TOPIC_ID = 1000;
/** Below the range from which operating systems take the ports of outgoing connections. */
const PORT_FIRST = 10_000;
const PORT_LAST = 30_000;
const POLL_MS = 20;

export interface LocalClusterOptions {
  /** Gets etc/, data/ and log/; must exist. */
  readonly folder: string;
  readonly stores?: number;
  readonly consumers?: number;
  readonly queues?: number;
  /** Paxos groups. */
  readonly groups?: number;
  /** Of the masters' leases; the default of the configuration if not given. */
  readonly lease_ms?: number;
  readonly engine?: 'auto' | 'native' | 'portable';
  /** Further keys of the topic. */
  readonly topic?: Readonly<Record<string, number>>;
  /** Workers of each consumer. */
  readonly nproc?: number;
  /** Receives each line that a consumer prints. */
  readonly onConsumerLine?: (line: string, consumer: number) => void;
}

interface StorePlace {
  readonly port: number;
  readonly paxos_port: number;
  readonly admin_port: number;
}

interface ConsumerPlace {
  readonly port: number;
  readonly admin_port: number;
}

/** See the head of this file. Stores and consumers are counted from 0. */
export class LocalCluster {
  readonly folder: string;
  readonly stores: readonly ServerProcess[];
  readonly consumers: readonly ServerProcess[];
  readonly #store_places: readonly StorePlace[];
  readonly #consumer_places: readonly ConsumerPlace[];

  private constructor(
    options: LocalClusterOptions,
    stores: readonly StorePlace[],
    consumers: readonly ConsumerPlace[],
  ) {
    const { folder, onConsumerLine } = options;
    this.folder = folder;
    this.#store_places = stores;
    this.#consumer_places = consumers;
    this.stores = stores.map((_, index) => {
      const name = `store ${index}`;
      return new ServerProcess({ name, launcher: launcher('store_main'), conf: storeConf(index), folder });
    });
    this.consumers = consumers.map((_, index) => {
      const onLine = (line: string): void => onConsumerLine?.(line, index);
      const name = `consumer ${index}`;
      return new ServerProcess({
        name,
        launcher: launcher('consumer_main'),
        conf: consumerConf(index),
        folder,
        onLine,
      });
    });
  }

  /** Chooses free ports and writes the configuration; nothing runs yet. */
  static async prepare(options: LocalClusterOptions): Promise<LocalCluster> {
    const stores = options.stores ?? 3;
    const consumers = options.consumers ?? 3;
    const ports = await freePorts(3 * stores + 2 * consumers);
    const next = (): number => {
      const port = ports.pop();
      assert(port !== undefined, 'there is a port for each purpose');
      return port;
    };
    const storePlaces = Array.from({ length: stores }, () => ({
      port: next(),
      paxos_port: next(),
      admin_port: next(),
    }));
    const consumerPlaces = Array.from({ length: consumers }, () => ({ port: next(), admin_port: next() }));
    await writeConfiguration(options, storePlaces, consumerPlaces);
    return new LocalCluster(options, storePlaces, consumerPlaces);
  }

  /** Path of the global configuration, for producers. */
  get global_config_path(): string {
    return join(this.folder, 'etc', 'globalconfig.conf');
  }

  /** Starts all servers; resolves when all are ready. Throws PhxError CLOSED if one of them exits. */
  async start(): Promise<void> {
    for (const server of [...this.stores, ...this.consumers]) server.start();
    await this.ready();
  }

  /** Resolves when all servers that run are ready. */
  async ready(): Promise<void> {
    await Promise.all([
      ...this.stores.map((server, index) => (server.running ? this.storeReady(index) : null)),
      ...this.consumers.map((server, index) => (server.running ? this.consumerReady(index) : null)),
    ]);
  }

  /** Resolves when a store serves: it takes part in Paxos, and each group has a master. */
  storeReady(store: number): Promise<void> {
    return this.#answers(at(this.stores, store), this.storeUrl(store, '/readyz'));
  }

  consumerReady(consumer: number): Promise<void> {
    return this.#answers(at(this.consumers, consumer), this.consumerUrl(consumer, '/readyz'));
  }

  /** Address of a store's admin page. */
  storeUrl(store: number, path: string): string {
    return `http://${HOST}:${at(this.#store_places, store).admin_port}${path}`;
  }

  consumerUrl(consumer: number, path: string): string {
    return `http://${HOST}:${at(this.#consumer_places, consumer).admin_port}${path}`;
  }

  /** Data folder of a store. */
  storeFolder(store: number): string {
    return join(this.folder, 'data', `store.${store}`);
  }

  /** Address where a store takes requests. */
  storeAddress(store: number): { ip: string; port: number; paxos_port: number } {
    const { port, paxos_port } = at(this.#store_places, store);
    return { ip: HOST, port, paxos_port };
  }

  /** Which store leads a Paxos group now; waits until one does. */
  async master(group = 0): Promise<number> {
    const deadline_ms = performance.now() + READY_WITHIN_MS;
    while (performance.now() < deadline_ms) {
      for (const [index, server] of this.stores.entries()) {
        if (server.running && (await this.#leads(index, group))) return index;
      }
      await delay(POLL_MS);
    }
    throw new PhxError('NO_MASTER', `no store leads group ${group} after ${READY_WITHIN_MS} ms`);
  }

  /** Value of a metric of a store, with labels as they are printed; null if the store does not have it. */
  async metric(store: number, name: string): Promise<number | null> {
    const text = await fetchText(this.storeUrl(store, '/metrics'));
    const line = text?.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? null : Number(line.slice(name.length + 1));
  }

  /** Waits until a store's log has a line with the text; false if it has none after `READY_WITHIN_MS`. */
  async storeLogged(store: number, text: string): Promise<boolean> {
    const path = join(this.folder, 'log', `store.${store}`, 'store_main.INFO');
    const deadline_ms = performance.now() + READY_WITHIN_MS;
    while (performance.now() < deadline_ms) {
      const log = await readFile(path, 'utf8').catch(() => '');
      if (log.includes(text)) return true;
      await delay(POLL_MS);
    }
    return false;
  }

  /** Stops what runs, consumers first; waits until all are gone. */
  async stop(): Promise<void> {
    await Promise.all(this.consumers.map((server) => server.stop()));
    await Promise.all(this.stores.map((server) => server.stop()));
  }

  async #leads(store: number, group: number): Promise<boolean> {
    return (await this.metric(store, `phxqueue_store_master{group="${group}"}`)) === 1;
  }

  async #answers(server: ServerProcess, url: string): Promise<void> {
    const deadline_ms = performance.now() + READY_WITHIN_MS;
    let last = 'no answer';
    while (performance.now() < deadline_ms) {
      if (!server.running) throw new PhxError('CLOSED', `${server.name} exited: ${await server.lastWords()}`);
      const response = await fetch(url).catch(() => null);
      const text = (await response?.text()) ?? last;
      if (response?.ok === true) return;
      last = text.trim();
      await delay(POLL_MS);
    }
    throw new PhxError('CLOSED', `${server.name} is not ready after ${READY_WITHIN_MS} ms: ${last}`);
  }
}

function at<T>(list: readonly T[], index: number): T {
  const element = list[index];
  assert(element !== undefined, `there is no server ${index}`);
  return element;
}

function launcher(program: string): string {
  return fileURLToPath(new URL(`../../../../bin/${program}`, import.meta.url));
}

function storeConf(index: number): string {
  return join('etc', `store_server.${index}.conf`);
}

function consumerConf(index: number): string {
  return join('etc', `consumer_server.${index}.conf`);
}

async function fetchText(url: string): Promise<string | null> {
  try {
    return await (await fetch(url)).text();
  } catch {
    // Nobody listens: the server is about to start or has just gone.
    return null;
  }
}

async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  let candidate = PORT_FIRST + Math.floor(Math.random() * (PORT_LAST - PORT_FIRST));
  for (let tries = 0; ports.length < count; tries += 1) {
    if (tries > PORT_LAST - PORT_FIRST) throw new PhxError('CONFIG', `no ${count} free ports on ${HOST}`);
    candidate = candidate >= PORT_LAST ? PORT_FIRST : candidate + 1;
    if (await isFree(candidate)) ports.push(candidate);
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

async function writeConfiguration(
  options: LocalClusterOptions,
  stores: readonly StorePlace[],
  consumers: readonly ConsumerPlace[],
): Promise<void> {
  const { folder } = options;
  await Promise.all(['etc', 'data', 'log'].map((name) => mkdir(join(folder, name), { recursive: true })));
  const write = (name: string, text: string): Promise<void> => writeFile(join(folder, 'etc', name), text);
  const json = (name: string, value: unknown): Promise<void> => write(name, `${JSON.stringify(value, null, 2)}\n`);
  // Absolute, so that programs with other working directories can read them too.
  const files = ['topic', 'consumer', 'store', 'scheduler', 'lock'].map((name) => [
    `${name}_config_path`,
    join(resolve(folder), 'etc', `${name}config.conf`),
  ]);
  const paths = Object.fromEntries(files);
  await Promise.all([
    json('globalconfig.conf', { topic_infos: [{ topic_id: TOPIC_ID, topic_name: TOPIC, ...paths }] }),
    json('topicconfig.conf', topicConfig(options)),
    json('storeconfig.conf', {
      stores: [
        {
          store_id: 1,
          addrs: stores.map(({ port, paxos_port }) => ({ ip: HOST, port, paxos_port })),
          scale: 100,
          pub_ids: [1],
        },
      ],
    }),
    json('consumerconfig.conf', {
      consumers: consumers.map(({ port }) => ({ addr: { ip: HOST, port }, scale: 1000 })),
    }),
    json('schedulerconfig.conf', {}),
    json('lockconfig.conf', {}),
    ...stores.map((place, index) => write(`store_server.${index}.conf`, storeServerConf(options, place, index))),
    ...consumers.map((place, index) =>
      json(`consumer_server.${index}.conf`, consumerServerConf(options.nproc ?? 2, place, index)),
    ),
  ]);
}

function topicConfig({ queues = 10, lease_ms, topic }: LocalClusterOptions): unknown {
  const lease = lease_ms === undefined ? {} : { store_paxos_master_lease: lease_ms };
  return {
    topic: { topic_id: TOPIC_ID, handle_ids: [1, 2], producer_batch_delay_time_ms: 1, ...lease, ...topic },
    queue_infos: [{ queue_info_id: 1, ranges: [`0-${queues - 1}`], sleep_us_on_get_no_item: 20_000 }],
    pubs: [{ pub_id: 1, consumer_group_ids: [1], queue_info_ids: [1] }],
    consumer_groups: [{ consumer_group_id: 1, use_dynamic_scale: 0, skip_lock: 1 }],
  };
}

function storeServerConf(options: LocalClusterOptions, place: StorePlace, index: number): string {
  return `[Server]
BindIP = ${HOST}
Port = ${place.port}
PackageName = phxqueue_phxrpc.store

[ServerTimeout]
SocketTimeoutMS = 120000

[Log]
LogDir = log/store.${index}
LogLevel = 0

[Store]
Topic = ${TOPIC}
DataDirPath = data/store.${index}
PhxQueueGlobalConfigPath = etc/globalconfig.conf
PaxosPort = ${place.paxos_port}
NGroup = ${options.groups ?? 1}
Engine = ${options.engine ?? 'auto'}

[Admin]
IP = ${HOST}
Port = ${place.admin_port}
`;
}

function consumerServerConf(nproc: number, place: ConsumerPlace, index: number): unknown {
  return {
    consumer: {
      ip: HOST,
      port: place.port,
      topic: TOPIC,
      nproc,
      phxqueue_global_config_path: 'etc/globalconfig.conf',
    },
    log: { path: `log/consumer.${index}`, level: 0 },
    admin: { ip: HOST, port: place.admin_port },
  };
}
