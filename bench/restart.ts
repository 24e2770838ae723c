/**
 * `npm run bench -- restart`: how long a store of one replica takes to read its log, and how much disk that takes, with all
 * items acknowledged: first from the beginning of the log, then from a checkpoint. Also what making it costs.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DEFAULT_CORE_OPTIONS } from '../src/ts/paxos/core/types.js';
import { logIdentity } from '../src/ts/paxos/identity.js';
import { PaxosNode } from '../src/ts/paxos/node.js';
import { encode } from '../src/ts/protocol/messages.js';
import { encodeAdd, encodeCursors } from '../src/ts/store/command.js';
import { StoreStateMachine } from '../src/ts/store/state_machine.js';
import { trimQueues } from '../src/ts/store/trim.js';
import type { LogEngine } from '../src/ts/wal/engine.js';
import { openLog } from '../src/ts/wal/open.js';

const USAGE =
  'usage: npm run bench -- restart [--items N] [--bytes B] [--queues Q] [--engine portable|native] [--folder FOLDER]';

const HOST = '127.0.0.1';
const ITEMS_PER_ADD = 100;
/** Adds under way at once. */
const ADDS_MAX = 64;
const CONSUMER_GROUP = 1;
const MIB = 1024 * 1024;

const { values } = parseArgs({
  options: {
    items: { type: 'string', default: '1000000' },
    bytes: { type: 'string', default: '100' },
    queues: { type: 'string', default: '100' },
    engine: { type: 'string', default: 'portable' },
    folder: { type: 'string', default: tmpdir() },
    help: { type: 'boolean', default: false },
  },
});

interface Running {
  readonly log: LogEngine;
  readonly node: PaxosNode;
  readonly machine: StoreStateMachine;
  readonly started_ms: number;
}

if (values.help) console.log(USAGE);
else await main();

async function main(): Promise<void> {
  const folder = await mkdtemp(join(values.folder, 'phxqueue-restart-'));
  console.log(`node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}, ${folder}`);
  try {
    let running = await start(folder);
    await fill(running);
    await stop(running);
    running = await start(folder);
    report('the whole log', running);
    await checkpoint(running);
    await stop(running);
    running = await start(folder);
    report('the checkpoint', running);
    await stop(running);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function start(folder: string): Promise<Running> {
  const began_ms = performance.now();
  const identity = { cluster: 'bench/store/1', replica: 1, groups: 1 };
  const engine = values.engine === 'native' ? 'native' : 'portable';
  const log = await openLog({ engine, folder: join(folder, 'log'), identity: logIdentity(identity) });
  const machine = new StoreStateMachine(1);
  const node = await PaxosNode.start({
    identity,
    replicas: [{ id: 1, host: HOST, paxos_port: await freePort() }],
    listen_host: HOST,
    log,
    stateMachine: machine,
    core: DEFAULT_CORE_OPTIONS,
    checkpoints: { instances_min: 1, bytes_min: 1, held_instances_max: 0, held_bytes_max: 0 },
    propose_timeout_ms: 60_000,
    logger: { info: () => undefined, warn: (line) => console.log(line) },
    onFailure: (error) => {
      throw error;
    },
  });
  return { log, node, machine, started_ms: performance.now() - began_ms };
}

async function stop({ node, log }: Running): Promise<void> {
  await node.close();
  await log.close();
}

/** Adds the items, and acknowledges all of them in all queues. */
async function fill({ node, machine }: Running): Promise<void> {
  while (node.mastership(0).role !== 'master') await nextTurn();
  const queues = Number(values.queues);
  const adds = Math.ceil(Number(values.items) / ITEMS_PER_ADD);
  const buffer = Buffer.alloc(Number(values.bytes), 'x');
  const items = Array.from({ length: ITEMS_PER_ADD }, () => ({ buffer, pub_id: 1 }));
  const bodies = Array.from({ length: queues }, (_, queue_id) =>
    encode('AddRequest', { topic_id: 1, store_id: 1, queue_id, items }),
  );
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let add = next++; add < adds; add = next++) {
      await node.propose(0, encodeAdd(Date.now(), bodies[add % queues] ?? buffer));
    }
  };
  await Promise.all(Array.from({ length: ADDS_MAX }, lane));
  const prev = machine.lastCursor(0);
  const updates = bodies.map((_, queue_id) => ({ queue_id, consumer_group: CONSUMER_GROUP, prev }));
  await node.propose(0, encodeCursors(updates));
}

async function checkpoint({ node, log, machine }: Running): Promise<void> {
  // The last instances are known to be chosen once it leads.
  while (node.mastership(0).role !== 'master') await nextTurn();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await nextTurn();
  const began_ms = performance.now();
  trimQueues(machine.queues(), () => [CONSUMER_GROUP], 0);
  const trimmed_ms = performance.now() - began_ms;
  const made = await node.checkpoint();
  const elapsed_ms = performance.now() - began_ms;
  await nextTurn();
  delay.disable();
  await log.settled();
  const state_bytes = machine.snapshot(0).reduce((sum, part) => sum + part.length, 0);
  const longest_ms = (delay.max / 1e6).toFixed(1);
  console.log(
    `${made} checkpoint of ${state_bytes} bytes in ${elapsed_ms.toFixed(1)} ms, ${trimmed_ms.toFixed(1)} ms of it ` +
      `trimming; the event loop was held up for ${longest_ms} ms at most`,
  );
}

function report(from: string, { log, machine, started_ms }: Running): void {
  let items = 0;
  for (const { index } of machine.queues()) items += index.items;
  const { disk_bytes, live_bytes } = log.stats();
  console.log(
    `start from ${from}: ${started_ms.toFixed(0)} ms, ${items} items indexed, cursor ${machine.lastCursor(0)}, ` +
      `${(disk_bytes / MIB).toFixed(1)} MiB on disk, ${(live_bytes / MIB).toFixed(3)} MiB of it live`,
  );
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.listen(0, HOST, () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === 'object') resolve(address.port);
        else reject(new Error('no port is free'));
      });
    });
  });
}
