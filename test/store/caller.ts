import type { ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { type Addr, decode, encode, type GetResponse } from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { RpcClient } from '../../src/ts/rpc/client.js';
import { addBody, NO_CURSOR, STORE_ID, TOPIC_ID, testItem } from './requests.js';
import type { StoreCluster } from './store_fixture.js';

/** Calls whichever replica is master. */
export class Caller {
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

/** Adds more than is worth a checkpoint, and acknowledges all but the last item; its cursor. */
export async function consumed(caller: Caller): Promise<bigint> {
  const megabyte = 'x'.repeat(1024 * 1024);
  for (let i = 0; i < 10; i += 1) await caller.add(0, [`${i} ${megabyte}`]);
  const last = await caller.add(0, ['kept']);
  let next = NO_CURSOR;
  while (next !== last) next = (await caller.get(0, NO_CURSOR, next)).next_cursor_id;
  await caller.get(0, last - 1n, last);
  return last;
}

export async function firstRetained(cluster: StoreCluster, replica: number): Promise<number> {
  const page = await fetch(`http://127.0.0.1:${cluster.store(replica).admin_port}/metrics`);
  return Number(/^phxqueue_paxos_first_retained_instance\{group="0"\} (\d+)$/m.exec(await page.text())?.[1]);
}
