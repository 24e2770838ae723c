import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { type Addr, decode, encode, type GetResponse } from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { RpcClient } from '../../src/ts/rpc/client.js';
import { addBody, NO_CURSOR, STORE_ID, TOPIC_ID, testItem } from './requests.js';
import { StoreCluster } from './store_fixture.js';

/** Calls whichever replica is master. */
class Caller {
  readonly #cluster: StoreCluster;
  readonly #client = new RpcClient();

  constructor(t: ExecutionContext, cluster: StoreCluster) {
    this.#cluster = cluster;
    t.teardown(() => this.#client.close());
  }

  async add(queue_id: number, texts: readonly string[]): Promise<bigint> {
    const items = texts.map((text) => testItem(text));
    return decode('AddResponse', await this.#call('Add', addBody(queue_id, items))).cursor_id;
  }

  async get(queue_id: number, prev: bigint, next: bigint): Promise<GetResponse> {
    const request = { topic_id: TOPIC_ID, store_id: STORE_ID, queue_id, limit: 1_000, consumer_group_id: 1 };
    const body = encode('GetRequest', { ...request, prev_cursor_id: prev, next_cursor_id: next });
    return decode('GetResponse', await this.#call('Get', body));
  }

  /** Everything that is not acknowledged: one Get may stop early, at its time limit. */
  async getAll(queue_id: number): Promise<{ prev: bigint; items: [bigint, string][] }> {
    const first = await this.get(queue_id, NO_CURSOR, NO_CURSOR);
    const items = delivered(first);
    for (let last = first; last.items.length > 0; ) {
      last = await this.get(queue_id, NO_CURSOR, last.next_cursor_id);
      items.push(...delivered(last));
    }
    return { prev: first.prev_cursor_id, items };
  }

  async #call(method: string, body: Uint8Array): Promise<Uint8Array> {
    let answer: Uint8Array | null = null;
    await this.#cluster.until(`${method} is answered`, async () => {
      for (const address of this.#cluster.addresses) answer ??= await this.#tryAt(address, method, body);
      return answer !== null;
    });
    return answer ?? Buffer.alloc(0);
  }

  /** Null if this replica is not master or does not run; nothing has happened then. */
  async #tryAt(address: Addr, method: string, body: Uint8Array): Promise<Uint8Array | null> {
    try {
      const { result, body: answer } = await this.#client.call(address, 'store', method, body);
      if (result === RetCode.NOT_MASTER || result === RetCode.NO_MASTER) return null;
      if (result !== RetCode.OK) throw new Error(`${method}: ${result}`);
      return answer;
    } catch (error) {
      if (error instanceof PhxError && error.code === 'RPC_CONNECT') return null;
      throw error;
    }
  }
}

function delivered(answer: GetResponse): [bigint, string][] {
  return answer.items.map((item) => [item.cursor_id, Buffer.from(item.buffer).toString()]);
}

test('after all replicas stopped abruptly every acknowledged item is back under its cursor', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3, groups: 3 });
  const before = new Caller(t, cluster);
  const queues = [0, 1, 2, 3];
  const expected = new Map<number, [bigint, string][]>(queues.map((queue_id) => [queue_id, []]));
  await Promise.all(
    queues.map(async (queue_id) => {
      for (let round = 0; round < 20; round += 1) {
        const texts = Array.from({ length: 1 + (round % 4) }, (_, i) => `queue ${queue_id} round ${round} item ${i}`);
        const first = await before.add(queue_id, texts);
        for (const [i, text] of texts.entries()) expected.get(queue_id)?.push([first + BigInt(i), text]);
      }
    }),
  );
  await cluster.haltAll();
  await cluster.startAll();
  const after = new Caller(t, cluster);
  for (const queue_id of queues) {
    t.deepEqual((await after.getAll(queue_id)).items, expected.get(queue_id));
  }
  // The counter goes on where it was.
  const [last] = (expected.get(0) ?? []).slice(-1);
  t.true((await after.add(0, ['one more'])) > (last?.[0] ?? 0n));
  t.deepEqual(cluster.fatal, []);
});

test('replicated acknowledgements survive an abrupt stop', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3 });
  const before = new Caller(t, cluster);
  await before.add(0, ['a', 'b', 'c', 'd']);
  const first = await before.get(0, NO_CURSOR, NO_CURSOR);
  t.is(first.next_cursor_id, 4n);
  // Two of the four are acknowledged: the client comes back for the rest.
  await before.get(0, 2n, 4n);
  await cluster.until('acknowledgements are replicated', () =>
    [0, 1, 2].every((i) => cluster.store(i).cursors_waiting === 0),
  );
  await cluster.haltAll();
  await cluster.startAll();
  const after = new Caller(t, cluster);
  t.deepEqual(await after.getAll(0), {
    prev: 2n,
    items: [
      [3n, 'c'],
      [4n, 'd'],
    ],
  });
});

test('a graceful stop keeps the acknowledgements of the last moment', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1 });
  const before = new Caller(t, cluster);
  await before.add(0, ['a', 'b']);
  await before.get(0, NO_CURSOR, NO_CURSOR);
  await before.get(0, 2n, 2n);
  t.is(cluster.store(0).cursors_waiting, 1);
  await cluster.close();
  await cluster.startAll();
  t.deepEqual(await new Caller(t, cluster).getAll(0), { prev: 2n, items: [] });
});

test('with one replica stopped the others go on, and it catches up when it returns', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3 });
  const caller = new Caller(t, cluster);
  await caller.add(0, ['first']);
  await cluster.store(2).close();
  for (let i = 0; i < 20; i += 1) await caller.add(0, [`while it is away ${i}`]);
  const back = await cluster.startOne(2);
  await cluster.until('the third replica is ready', () => back.ready().ok);
  await cluster.store(0).close();
  // Whichever of the two leads now has everything.
  t.is((await caller.getAll(0)).items.length, 21);
});

/** Adds more than is worth a checkpoint, and acknowledges all but the last item; its cursor. */
async function consumed(caller: Caller): Promise<bigint> {
  const megabyte = 'x'.repeat(1024 * 1024);
  for (let i = 0; i < 10; i += 1) await caller.add(0, [`${i} ${megabyte}`]);
  const last = await caller.add(0, ['kept']);
  let next = NO_CURSOR;
  while (next !== last) next = (await caller.get(0, NO_CURSOR, next)).next_cursor_id;
  await caller.get(0, last - 1n, last);
  return last;
}

async function firstRetained(cluster: StoreCluster, replica: number): Promise<number> {
  const page = await fetch(`http://127.0.0.1:${cluster.store(replica).admin_port}/metrics`);
  return Number(/^phxqueue_paxos_first_retained_instance\{group="0"\} (\d+)$/m.exec(await page.text())?.[1]);
}

test('a replica that was away while the log was truncated is brought a checkpoint, and can serve', async (t) => {
  const topic = { store_make_cp_interval_s: 1, store_paxos_hold_log_count: 0 };
  const cluster = await StoreCluster.start(t, { replicas: 3, topic });
  const caller = new Caller(t, cluster);
  await caller.add(0, ['first']);
  await cluster.store(2).close();
  const last = await consumed(caller);
  for (const replica of [0, 1]) {
    await cluster.until('the log is truncated', async () => (await firstRetained(cluster, replica)) > 10);
  }
  const back = await cluster.startOne(2);
  await cluster.until('it has a state', () => cluster.lines.some((line) => /goes on behind the checkpoint/.test(line)));
  await cluster.until('it is ready', () => back.ready().ok);
  await cluster.store(0).close();
  t.deepEqual(await caller.getAll(0), { prev: last - 1n, items: [[last, 'kept']] });
});

test('items that all acknowledged before the checkpoint are not read again, the others are', async (t) => {
  const topic = { store_make_cp_interval_s: 1, store_paxos_hold_log_count: 0 };
  const cluster = await StoreCluster.start(t, { replicas: 1, topic });
  const last = await consumed(new Caller(t, cluster));
  await cluster.until('the log is truncated', async () => (await firstRetained(cluster, 0)) > 10);
  await cluster.haltAll();
  await cluster.startAll();
  t.regex(cluster.lines.join('\n'), /read 1 items of 1 Paxos groups/);
  const after = await new Caller(t, cluster).getAll(0);
  t.deepEqual(after, { prev: last - 1n, items: [[last, 'kept']] });
});

test('a copy of the high-water marks that was lost while the store was down is told', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1 });
  await cluster.close();
  const path = join(cluster.dataFolder(0), 'log', 'marks');
  const marks = await readFile(path);
  marks[42] = (marks[42] ?? 0) ^ 1;
  await writeFile(path, marks);
  await cluster.startAll();
  t.is(cluster.lines.filter((line) => /WARN 1 of the two copies of the log's high-water marks/.test(line)).length, 1);
});
