/**
 * `npm run bench -- catch_up`: 3 stores as processes, one of which is away while items are added, and comes back while the
 * others serve a modest load. How long until it has applied as much as the master, by the log and by a checkpoint.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { LocalCluster } from '../src/ts/cli/local_cluster.js';
import { EnqueueError } from '../src/ts/producer/enqueue_error.js';
import { type Route, StoreClient } from '../src/ts/producer/store_client.js';
import { encode } from '../src/ts/protocol/messages.js';
import { RpcClient } from '../src/ts/rpc/client.js';
import { MasterClient } from '../src/ts/rpc/master_client.js';

const USAGE = `usage: npm run bench -- catch_up [--items N] [--size BYTES] [--load ITEMS_PER_S]
                               [--engine auto|native|portable] [--json FILE]`;

const TOPIC_ID = 1000;
const QUEUES = 10;
const ITEMS_PER_ADD = 100;
/** Adds under way at once. */
const LANES = 16;
const ITEMS_PER_GET = 2_000;
const POLL_MS = 10;
const NEWEST_BYTES = 9 * 2 ** 20;
/** Checkpoints are made each second. */
const SETTLED_MS = 3_000;
/** No part of a run takes longer. */
const WITHIN_MS = 180_000;
const NO_CURSOR = 2n ** 64n - 1n;
const MB = 1e6;

const { values } = parseArgs({
  options: {
    items: { type: 'string', default: '1000000' },
    size: { type: 'string', default: '100' },
    load: { type: 'string', default: '500' },
    engine: { type: 'string', default: 'auto' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

/** What of the missed items consumers have acknowledged when the replica comes back. */
interface Case {
  readonly path: string;
  readonly acknowledged: number;
}

const CASES: readonly Case[] = [
  { path: 'log: nothing acknowledged', acknowledged: 0 },
  { path: 'checkpoint: half acknowledged', acknowledged: 0.5 },
  { path: 'checkpoint: nearly all acknowledged', acknowledged: 1 },
];

interface Row extends Case {
  /** Since the start of the process: that it listens, and that it has caught up. Rates are of the time in between. */
  readonly listens_s: number;
  readonly seconds: number;
  readonly items_per_s: number;
  readonly received_mb: number;
  readonly received_mb_per_s: number;
  /** Of Adds of one item meanwhile, and before. */
  readonly add_p99_ms: number;
  readonly add_p99_before_ms: number;
}

async function main(): Promise<void> {
  const { engine } = values;
  if (engine !== 'auto' && engine !== 'native' && engine !== 'portable') throw new Error(`no such engine: ${engine}`);
  console.log(`node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}`);
  console.log(`${values.items} items of ${values.size} bytes missed, ${values.load} items/s added meanwhile\n`);
  console.log(
    'caught up by                         listens s   up after s   items/s   received MB   MB/s   Add p99 ms   before',
  );
  const rows: Row[] = [];
  for (const each of CASES) {
    const folder = await mkdtemp(join(tmpdir(), 'phxqueue-bench-'));
    // Nothing is held for others, so that the second and third case cannot be served from the log.
    const topic = { store_paxos_hold_log_count: 0, store_make_cp_interval_s: 1 };
    const cluster = await LocalCluster.prepare({ folder, engine, consumers: 0, queues: QUEUES, topic });
    try {
      await cluster.start();
      const row = await measure(cluster, each);
      rows.push(row);
      print(row);
    } finally {
      await cluster.stop();
      await rm(folder, { recursive: true, force: true });
    }
  }
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(rows, null, 2)}\n`);
}

function print(row: Row): void {
  const cells: readonly (readonly [string, number])[] = [
    [row.listens_s.toFixed(2), 10],
    [row.seconds.toFixed(2), 13],
    [row.items_per_s.toFixed(0), 10],
    [row.received_mb.toFixed(1), 14],
    [row.received_mb_per_s.toFixed(1), 7],
    [row.add_p99_ms.toFixed(1), 13],
    [row.add_p99_before_ms.toFixed(1), 9],
  ];
  console.log(row.path.padEnd(36) + cells.map(([text, width]) => text.padStart(width)).join(''));
}

async function measure(cluster: LocalCluster, { path, acknowledged }: Case): Promise<Row> {
  const rpc = new RpcClient({ socket_timeout_ms: 30_000 });
  const client = new StoreClient(new MasterClient(rpc));
  const queues = new Queues(client, cluster);
  try {
    const missed = Number(values.items);
    await queues.add(QUEUES * ITEMS_PER_ADD);
    const away = (await cluster.master()) === 2 ? 1 : 2;
    await cluster.stores[away]?.stop();
    // The newest make a checkpoint worth its writing after the acknowledgements of the others.
    const newest = Math.min(missed, Math.ceil(NEWEST_BYTES / Number(values.size)));
    await queues.add(missed - newest);
    if (acknowledged > 0) await queues.acknowledge(acknowledged);
    await queues.add(newest);
    if (acknowledged > 0) await truncated(cluster);
    const load = new Load(queues, Number(values.load));
    await delay(1_000);
    const add_p99_before_ms = load.p99();
    const began_ms = performance.now();
    cluster.stores[away]?.start();
    const listens_s = (await until(() => applied(cluster, away), began_ms)) / 1_000;
    const seconds = (await caughtUp(cluster, away, began_ms)) / 1_000;
    const received_mb = ((await cluster.metric(away, 'phxqueue_paxos_received_bytes')) ?? 0) / MB;
    const add_p99_ms = load.p99();
    await load.stop();
    const catching_s = seconds - listens_s;
    const rates = { items_per_s: missed / catching_s, received_mb, received_mb_per_s: received_mb / catching_s };
    return { path, acknowledged, listens_s, seconds, ...rates, add_p99_ms, add_p99_before_ms };
  } finally {
    await rpc.close();
  }
}

/** The queues of the store, as producers and consumers use them. */
class Queues {
  readonly #client: StoreClient;
  readonly #routes: readonly Route[];
  readonly #item = encode('QItem', {
    buffer: Buffer.alloc(Number(values.size), 'x'),
    consumer_group_ids: NO_CURSOR,
    pub_id: 1,
    meta: { topic_id: TOPIC_ID, handle_id: 1, pub_id: 1 },
  });
  readonly #added = new Array<number>(QUEUES).fill(0);

  constructor(client: StoreClient, cluster: LocalCluster) {
    this.#client = client;
    const addrs = cluster.stores.map((_, store) => cluster.storeAddress(store));
    this.#routes = this.#added.map((_, queue_id) => ({ topic_id: TOPIC_ID, store_id: 1, queue_id, addrs }));
  }

  async add(items: number): Promise<void> {
    const adds = Math.ceil(items / ITEMS_PER_ADD);
    let next = 0;
    const lane = async (): Promise<void> => {
      for (let add = next++; add < adds; add = next++) await this.addTo(add % QUEUES, ITEMS_PER_ADD);
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  async addTo(queue: number, items: number): Promise<void> {
    const route = this.#routes[queue];
    if (route === undefined) throw new Error(`no queue ${queue}`);
    const batch = Array.from({ length: items }, () => this.#item);
    for (;;) {
      try {
        await this.#client.add(route, batch);
        this.#added[queue] = (this.#added[queue] ?? 0) + items;
        return;
      } catch (error) {
        if (!(error instanceof EnqueueError)) throw error;
        await delay(POLL_MS);
      }
    }
  }

  /** A consumer gets this share of the items of all queues, the oldest ones, and acknowledges them. */
  async acknowledge(share: number): Promise<void> {
    // All queues are of one Paxos group, which numbers their items.
    const through = BigInt(Math.floor(this.#added.reduce((sum, added) => sum + added, 0) * share));
    await Promise.all(this.#routes.map((route) => this.#consume(route, through)));
  }

  async #consume(route: Route, through: bigint): Promise<void> {
    const { topic_id, store_id, queue_id } = route;
    const began_ms = performance.now();
    let [prev, next] = [NO_CURSOR, NO_CURSOR];
    await until(async () => {
      const cursors = { prev_cursor_id: prev, next_cursor_id: next };
      const request = { topic_id, store_id, queue_id, consumer_group_id: 1, limit: ITEMS_PER_GET, ...cursors };
      const { response } = await this.#client.get(route, request, AbortSignal.timeout(WITHIN_MS));
      // Another one leads, or nobody: the same again.
      if (response === undefined) return null;
      // This Get has acknowledged what came before.
      if (response.items.length === 0 || (next !== NO_CURSOR && next >= through)) return true;
      prev = response.next_cursor_id;
      next = response.next_cursor_id;
      return null;
    }, began_ms);
  }
}

/** Adds one item after the other at a rate, and remembers how long each took. */
class Load {
  readonly #ends = new AbortController();
  readonly #running: Promise<void>;
  #times_ms: number[] = [];

  constructor(queues: Queues, items_per_s: number) {
    const lanes = Math.max(1, Math.min(LANES, Math.ceil(items_per_s / 50)));
    const every_ms = (1_000 * lanes) / items_per_s;
    const lane = async (queue: number): Promise<void> => {
      while (!this.#ends.signal.aborted) {
        const began_ms = performance.now();
        await queues.addTo(queue % QUEUES, 1);
        const took_ms = performance.now() - began_ms;
        this.#times_ms.push(took_ms);
        await delay(Math.max(0, every_ms - took_ms));
      }
    };
    this.#running = Promise.all(Array.from({ length: lanes }, (_, queue) => lane(queue))).then(() => undefined);
  }

  /** Of the Adds since the last call. */
  p99(): number {
    const sorted = this.#times_ms.sort((a, b) => a - b);
    this.#times_ms = [];
    return sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
  }

  stop(): Promise<void> {
    this.#ends.abort();
    return this.#running;
  }
}

/** Waits until the stores that run have deleted what log they can. */
async function truncated(cluster: LocalCluster): Promise<void> {
  const began_ms = performance.now();
  const first = (): Promise<(number | null)[]> => {
    const name = 'phxqueue_paxos_first_retained_instance{group="0"}';
    return Promise.all(
      cluster.stores.map(async (store, index) => (store.running ? cluster.metric(index, name) : null)),
    );
  };
  let before = '';
  await until(async () => {
    await delay(SETTLED_MS);
    const [now, last] = [await first(), before];
    before = now.join();
    return before === last && now.some((instance) => instance !== null && instance > 1) ? true : null;
  }, began_ms);
}

/** Milliseconds until the store has applied what the master had a moment before. */
async function caughtUp(cluster: LocalCluster, store: number, began_ms: number): Promise<number> {
  const master = await cluster.master();
  return until(async () => {
    const goal = await applied(cluster, master);
    const reached = await applied(cluster, store);
    return goal !== null && reached !== null && reached >= goal ? true : null;
  }, began_ms);
}

function applied(cluster: LocalCluster, store: number): Promise<number | null> {
  return cluster.metric(store, 'phxqueue_paxos_applied_instance{group="0"}');
}

async function until(find: () => Promise<unknown>, began_ms: number): Promise<number> {
  for (;;) {
    if ((await find()) !== null) return performance.now() - began_ms;
    if (performance.now() - began_ms > WITHIN_MS) throw new Error(`not within ${WITHIN_MS / 1_000} s`);
    await delay(POLL_MS);
  }
}

if (values.help) console.log(USAGE);
else await main();
