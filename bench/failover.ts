/**
 * `npm run bench -- failover`: 3 stores as processes, a load of Adds, and the store that leads killed again and again
 * (kill -9). For each kill: how long until an Add is acknowledged that began after it, and until a Get is answered. A killed
 * store is started again before the next kill. With `--hand-over` it is asked to stop instead, and the figures are the longest
 * times that passed between two answers until it was gone.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { LocalCluster } from '../src/ts/cli/local_cluster.js';
import { EnqueueError } from '../src/ts/producer/enqueue_error.js';
import { Producer } from '../src/ts/producer/producer.js';
import { type Route, StoreClient } from '../src/ts/producer/store_client.js';
import { encode } from '../src/ts/protocol/messages.js';
import { RetCode } from '../src/ts/protocol/ret_code.js';
import { RpcClient } from '../src/ts/rpc/client.js';
import { MasterClient } from '../src/ts/rpc/master_client.js';

const USAGE = `usage: npm run bench -- failover [--kills N] [--hand-over] [--producers N] [--engine auto|native|portable] [--json FILE]

  --kills N        how often the leading store is killed (50)
  --hand-over      ask it to stop instead: it hands its leadership over first
  --producers N    each has one item on its way at a time (10)
  --engine NAME    log engine of the stores (auto)
  --json FILE      writes the times in milliseconds`;

const TOPIC_ID = 1000;
/** A prober that got no answer tries again after this. */
const PROBE_PAUSE_MS = 2;
/** Time with all stores up between two kills. */
const CALM_MS = 500;
const NO_CURSOR = 2n ** 64n - 1n;

const probeItem = encode('QItem', {
  buffer: Buffer.from('probe'),
  consumer_group_ids: NO_CURSOR,
  pub_id: 1,
  meta: { topic_id: TOPIC_ID, handle_id: 1, pub_id: 1 },
});

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '50' },
    producers: { type: 'string', default: '10' },
    engine: { type: 'string', default: 'auto' },
    'hand-over': { type: 'boolean', default: false },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

/** Calls again and again; remembers when the newest call that succeeded had begun, and when it ended. */
class Prober {
  readonly #call: (signal: AbortSignal) => Promise<boolean>;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #waiting: { readonly since_ms: number; readonly resolve: (ended_ms: number) => void } | null = null;
  #answered_ms = performance.now();
  #longest_ms = 0;

  constructor(call: (signal: AbortSignal) => Promise<boolean>) {
    this.#call = call;
    this.#running = this.#run();
  }

  /** When the first call ended that began from now on and succeeded. */
  next(): Promise<number> {
    const since_ms = performance.now();
    return new Promise((resolve) => {
      this.#waiting = { since_ms, resolve };
    });
  }

  /** Forgets how long answers took so far. */
  watch(): void {
    this.#longest_ms = 0;
  }

  /** The longest time between two answers since `watch`. */
  get longest_ms(): number {
    return this.#longest_ms;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const began_ms = performance.now();
      const ok = await this.#call(this.#stop.signal);
      const waiting = this.#waiting;
      if (ok) {
        const now_ms = performance.now();
        this.#longest_ms = Math.max(this.#longest_ms, now_ms - this.#answered_ms);
        this.#answered_ms = now_ms;
      }
      if (ok && waiting !== null && began_ms >= waiting.since_ms) {
        this.#waiting = null;
        waiting.resolve(performance.now());
      }
      await delay(PROBE_PAUSE_MS);
    }
  }
}

interface Gap {
  readonly add_ms: number;
  readonly get_ms: number;
}

async function main(): Promise<void> {
  const { engine } = values;
  if (engine !== 'auto' && engine !== 'native' && engine !== 'portable') throw new Error(`no such engine: ${engine}`);
  console.log(`node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}`);
  const folder = await mkdtemp(join(tmpdir(), 'phxqueue-bench-'));
  const cluster = await LocalCluster.prepare({ folder, engine, consumers: 0, queues: 1 });
  try {
    await cluster.start();
    const hand_over = values['hand-over'];
    const gaps = await measure(cluster, hand_over, Number(values.kills), Number(values.producers));
    print(
      hand_over ? 'without an Add' : 'next Add acknowledged',
      gaps.map(({ add_ms }) => add_ms),
    );
    print(
      hand_over ? 'without a Get' : 'next Get answered',
      gaps.map(({ get_ms }) => get_ms),
    );
    if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(gaps, null, 2)}\n`);
  } finally {
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(cluster: LocalCluster, hand_over: boolean, kills: number, producers: number): Promise<Gap[]> {
  const rpc = new RpcClient({ socket_timeout_ms: 1_000 });
  const route: Route = {
    topic_id: TOPIC_ID,
    store_id: 1,
    queue_id: 0,
    addrs: cluster.stores.map((_, store) => cluster.storeAddress(store)),
  };
  const producer = await Producer.open({ global_config_path: cluster.global_config_path });
  const load = startLoad(producer, producers);
  const adds = new Prober((signal) => addOnce(new StoreClient(new MasterClient(rpc)), route, signal));
  const gets = new Prober((signal) => getOnce(new StoreClient(new MasterClient(rpc)), route, signal));
  const gaps: Gap[] = [];
  try {
    for (let kill = 0; kill < kills; kill++) {
      const leader = await cluster.master();
      await delay(CALM_MS);
      gaps.push(
        hand_over ? await gapOfStop(cluster, leader, adds, gets) : await gapOfKill(cluster, leader, adds, gets),
      );
      if (process.stderr.isTTY) process.stderr.write(`\r${kill + 1} of ${kills} kills`);
      cluster.stores[leader]?.start();
      await cluster.storeReady(leader);
    }
    if (process.stderr.isTTY) process.stderr.write('\n');
  } finally {
    await Promise.all([adds.stop(), gets.stop()]);
    await load.stop();
    await producer.close();
    await rpc.close();
  }
  return gaps;
}

async function gapOfKill(cluster: LocalCluster, leader: number, adds: Prober, gets: Prober): Promise<Gap> {
  const killed_ms = performance.now();
  cluster.stores[leader]?.signal('SIGKILL');
  const [added_ms, got_ms] = await Promise.all([adds.next(), gets.next()]);
  await cluster.stores[leader]?.kill();
  return { add_ms: added_ms - killed_ms, get_ms: got_ms - killed_ms };
}

async function gapOfStop(cluster: LocalCluster, leader: number, adds: Prober, gets: Prober): Promise<Gap> {
  await Promise.all([adds.next(), gets.next()]);
  adds.watch();
  gets.watch();
  await cluster.stores[leader]?.stop();
  await Promise.all([adds.next(), gets.next()]);
  return { add_ms: adds.longest_ms, get_ms: gets.longest_ms };
}

/** Each producer enqueues one item after the other and outlives the failovers. */
function startLoad(producer: Producer, producers: number): { stop(): Promise<void> } {
  const stop = new AbortController();
  const run = async (uin: bigint): Promise<void> => {
    while (!stop.signal.aborted) {
      try {
        await producer.enqueue({ topic_id: TOPIC_ID, pub_id: 1, handle_id: 1, uin, buffer: 'x'.repeat(100) });
      } catch (error) {
        if (!(error instanceof EnqueueError)) throw error;
        await delay(PROBE_PAUSE_MS);
      }
    }
  };
  const running = Promise.all(Array.from({ length: producers }, (_, index) => run(BigInt(index))));
  return {
    stop: async () => {
      stop.abort();
      await running;
    },
  };
}

async function addOnce(client: StoreClient, route: Route, signal: AbortSignal): Promise<boolean> {
  try {
    await client.add(route, [probeItem], signal);
    return true;
  } catch (error) {
    if (error instanceof EnqueueError) return false;
    throw error;
  }
}

async function getOnce(client: StoreClient, route: Route, signal: AbortSignal): Promise<boolean> {
  const { topic_id, store_id, queue_id } = route;
  const cursors = { prev_cursor_id: NO_CURSOR, next_cursor_id: NO_CURSOR };
  const request = { topic_id, store_id, queue_id, consumer_group_id: 1, limit: 1, ...cursors };
  return (await client.get(route, request, signal)).ret === RetCode.OK;
}

function print(what: string, times_ms: readonly number[]): void {
  const sorted = [...times_ms].sort((a, b) => a - b);
  const at = (share: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(0);
  console.log(
    `${what.padEnd(22)} p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, max ${at(1)} ms, min ${at(0)} ms (${sorted.length} times)`,
  );
}

if (values.help) console.log(USAGE);
else await main();
