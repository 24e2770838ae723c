/** A store in memory that speaks the wire over real sockets, and fails as a test wants it to. */
import {
  type AddRequest,
  type Addr,
  decode,
  encode,
  type GetRequest,
  type QItem,
} from '../../src/ts/protocol/messages.js';
import { RetCode } from '../../src/ts/protocol/ret_code.js';
import { type RpcAnswer, RpcServer } from '../../src/ts/rpc/server.js';

export const CURSOR_NONE = 0xffff_ffff_ffff_ffffn;
const HOST = '127.0.0.1';
const WAIT_MS = 20_000;

/** What becomes of an Add in place of success: a code, with or without taking the items; or no answer at all. */
export type AddFate = { readonly result: number; readonly taken?: boolean } | 'silence' | 'taken in silence';

/** An Add that arrived. */
export interface SeenAdd {
  readonly replica: number;
  readonly request: AddRequest;
}

interface Cursors {
  prev: bigint;
  next: bigint;
}

/** Several replicas of one store, one of which leads. */
export class FakeStore {
  readonly store_id: number;
  /** Which replica leads; null: none. */
  master: number | null = 0;
  /** Decides the fate of an Add at the master; null: it succeeds. */
  addFate: (request: AddRequest) => AddFate | null = () => null;
  /** Code that Gets at the master fail with. */
  get_result: number = RetCode.OK;
  /** All Adds, redirected ones too, in order of arrival. */
  readonly adds: SeenAdd[] = [];
  /** All Gets at the master, in order of arrival. */
  readonly gets: GetRequest[] = [];
  readonly #queues = new Map<number, QItem[]>();
  readonly #cursors = new Map<string, Cursors>();
  readonly #watchers = new Set<() => void>();
  readonly #servers: RpcServer[] = [];
  #next_cursor = 1n;

  private constructor(store_id: number) {
    this.store_id = store_id;
  }

  static async start(store_id = 1, replicas = 3): Promise<FakeStore> {
    const store = new FakeStore(store_id);
    for (let replica = 0; replica < replicas; replica += 1) {
      store.#servers.push(
        await RpcServer.listen({
          host: HOST,
          port: 0,
          service: 'store',
          methods: { Add: (body) => store.#add(replica, body), Get: (body) => store.#get(replica, body) },
          logger: { warn: () => undefined },
        }),
      );
    }
    return store;
  }

  get addrs(): Addr[] {
    return this.#servers.map(({ port }) => ({ ip: HOST, port, paxos_port: 1 }));
  }

  /** Ends connections and server of one replica. */
  async stopReplica(replica: number): Promise<void> {
    await this.#servers[replica]?.close(0);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.close(0)));
  }

  /** The items of a queue in order, with their cursors. */
  items(queue_id: number): readonly QItem[] {
    return this.#queues.get(queue_id) ?? [];
  }

  /** Texts of a queue's items in order. */
  texts(queue_id: number): string[] {
    return this.items(queue_id).map(({ buffer }) => Buffer.from(buffer).toString());
  }

  /** How many items of a queue a group has acknowledged. */
  acknowledged(queue_id: number, consumer_group_id = 1): number {
    const prev = this.#cursors.get(`${consumer_group_id}/${queue_id}`)?.prev ?? 0n;
    return this.items(queue_id).filter(({ cursor_id }) => cursor_id <= prev).length;
  }

  /** Resolves when a condition holds; it is looked at after each request. */
  async until(condition: () => boolean, what: string): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#watchers.delete(check);
        reject(new Error(`still not after ${WAIT_MS} ms: ${what}`));
      }, WAIT_MS);
      const check = (): void => {
        if (!condition()) return;
        clearTimeout(timer);
        this.#watchers.delete(check);
        resolve();
      };
      this.#watchers.add(check);
    });
  }

  /** Puts items into a queue as a producer would. */
  put(queue_id: number, items: readonly QItem[]): bigint {
    const first = this.#next_cursor;
    const queue = this.#queues.get(queue_id) ?? [];
    this.#queues.set(queue_id, queue);
    for (const item of items) {
      queue.push({ ...item, cursor_id: this.#next_cursor });
      this.#next_cursor += 1n;
    }
    return first;
  }

  #add(replica: number, body: Uint8Array): Promise<RpcAnswer> {
    const request = decode('AddRequest', Uint8Array.from(body));
    this.adds.push({ replica, request });
    const reply = this.#refusal(replica) ?? this.#take(request);
    this.#changed();
    return reply === null ? new Promise(() => undefined) : Promise.resolve(reply);
  }

  /** Takes the items, or does what the test wants; null: it never answers. */
  #take(request: AddRequest): RpcAnswer | null {
    const fate = this.addFate(request) ?? { result: RetCode.OK, taken: true };
    if (fate === 'silence') return null;
    const taken = fate === 'taken in silence' || fate.taken === true;
    const cursor_id = taken ? this.put(request.queue_id, request.items) : undefined;
    return fate === 'taken in silence'
      ? null
      : answer(fate.result, encode('AddResponse', { cursor_id, redirect_addr: {} }));
  }

  async #get(replica: number, body: Uint8Array): Promise<RpcAnswer> {
    const request = decode('GetRequest', body);
    const refusal = this.#refusal(replica);
    if (refusal !== null) return refusal;
    this.gets.push(request);
    if (this.get_result !== RetCode.OK) {
      this.#changed();
      return answer(this.get_result, encode('GetResponse', { redirect_addr: {} }));
    }
    const cursors = this.#acknowledge(request);
    const mask = 1n << BigInt(request.consumer_group_id - 1);
    const items = this.items(request.queue_id)
      .filter(({ cursor_id, consumer_group_ids }) => cursor_id > cursors.next && (consumer_group_ids & mask) !== 0n)
      .filter((item) => request.atime === 0n || item.atime * 1000n + BigInt(item.atime_ms) <= newestMs(request))
      .slice(0, Math.max(0, request.limit));
    cursors.next = items.at(-1)?.cursor_id ?? cursors.next;
    this.#changed();
    const { prev, next } = cursors;
    const response = { items, prev_cursor_id: prev, next_cursor_id: next, redirect_addr: {} };
    return answer(RetCode.OK, encode('GetResponse', response));
  }

  /** A consumer that does not know where it was gets again what was not acknowledged. */
  #acknowledge({ consumer_group_id, queue_id, prev_cursor_id, next_cursor_id }: GetRequest): Cursors {
    const key = `${consumer_group_id}/${queue_id}`;
    const cursors = this.#cursors.get(key) ?? { prev: 0n, next: 0n };
    this.#cursors.set(key, cursors);
    if (next_cursor_id !== cursors.next || prev_cursor_id > next_cursor_id) cursors.next = cursors.prev;
    else if (prev_cursor_id > cursors.prev) cursors.prev = prev_cursor_id;
    return cursors;
  }

  #refusal(replica: number): RpcAnswer | null {
    if (this.master === null) return answer(RetCode.NO_MASTER, encode('AddResponse', { redirect_addr: {} }));
    if (this.master === replica) return null;
    return answer(RetCode.NOT_MASTER, encode('AddResponse', { redirect_addr: this.addrs[this.master] ?? {} }));
  }

  #changed(): void {
    for (const check of [...this.#watchers]) check();
  }
}

function newestMs({ atime, atime_ms }: GetRequest): bigint {
  return atime * 1000n + BigInt(atime_ms);
}

function answer(result: number, body: Uint8Array): RpcAnswer {
  return { result, body: [body] };
}
