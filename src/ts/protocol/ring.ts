/** Consistent hashing, point by point as the C++ original does it: all clients have to come to the same choice. */
import { assert } from '../errors.js';
import { type Endpoint, encodeAddr } from './address.js';
import { crc32Int32, crc32Uint64, hashInt32, hashUint64 } from './hash.js';

/** Points on a ring, each with its owner. A point that two claim belongs to the first. */
class Ring<Owner> {
  readonly #points: readonly (readonly [bigint, Owner])[];

  constructor(claims: Iterable<readonly [bigint, Owner]>) {
    const owners = new Map<bigint, Owner>();
    for (const [point, owner] of claims) if (!owners.has(point)) owners.set(point, owner);
    this.#points = [...owners].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** The first point at or behind `key`, or else the first of all. Undefined if the ring is empty. */
  at(key: bigint): readonly [bigint, Owner] | undefined {
    let low = 0;
    let high = this.#points.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const point = this.#points[middle]?.[0];
      assert(point !== undefined, 'a binary search stays within its list');
      if (point < key) low = middle + 1;
      else high = middle;
    }
    return this.#points[low] ?? this.#points[0];
  }
}

/** What a store ring needs to know of a store. */
export interface RingStore {
  readonly addrs: readonly Endpoint[];
  /** Number of points. */
  readonly scale: number;
}

/** Chooses the store that a producer adds to. */
export class StoreRing<Store extends RingStore> {
  readonly stores: readonly Store[];
  readonly #ring: Ring<Store>;
  readonly #own_rings: ReadonlyMap<Store, Ring<Store>>;

  constructor(stores: readonly Store[]) {
    this.stores = stores;
    const claims: [bigint, Store][] = [];
    const own_claims = new Map<Store, [bigint, Store][]>();
    const claimed = new Set<bigint>();
    for (const store of stores) {
      const points = storePoints(store).filter((point) => !claimed.has(point));
      for (const point of points) claimed.add(point);
      const own = points.map((point): [bigint, Store] => [point, store]);
      own_claims.set(store, own);
      claims.push(...own);
    }
    this.#ring = new Ring(claims);
    this.#own_rings = new Map([...own_claims].map(([store, own]) => [store, new Ring(own)]));
  }

  /**
   * The store for a key (see `storeKey`). Without `tried` the owner of the key; after failed attempts, that one of the
   * stores not in `tried` whose own next point is the smallest number. Where every store was tried, or none has a point:
   * the store at place key mod number of stores. Undefined if there are no stores.
   */
  select(key: bigint, tried: ReadonlySet<Store> = new Set()): Store | undefined {
    if (this.stores.length === 0) return undefined;
    const chosen = tried.size === 0 ? this.#ring.at(key) : this.#selectOther(key, tried);
    return chosen?.[1] ?? this.stores[Number(key % BigInt(this.stores.length))];
  }

  #selectOther(key: bigint, tried: ReadonlySet<Store>): readonly [bigint, Store] | undefined {
    let smallest: readonly [bigint, Store] | undefined;
    for (const [store, ring] of this.#own_rings) {
      if (tried.has(store)) continue;
      const next = ring.at(key);
      if (next !== undefined && (smallest === undefined || next[0] < smallest[0])) smallest = next;
    }
    return smallest;
  }
}

/** The points of a store on the producers' ring. */
export function storePoints({ addrs, scale }: RingStore): bigint[] {
  let seed = 0n;
  for (const addr of addrs) seed = hashUint64(encodeAddr(addr), seed);
  return Array.from({ length: scale }, (_, i) => hashInt32(i, seed));
}

/**
 * Where on the store ring a key of a topic stands. `attempt` counts from 0 where retries go to another store
 * (producer_retry_switch_store), and is null where they do not.
 */
export function storeKey(topic_id: number, uin: bigint, attempt: number | null): bigint {
  const key = hashInt32(topic_id, hashUint64(uin, 0n));
  return attempt === null ? key : hashInt32(attempt, key);
}

/**
 * Which queue of a queue_info a key belongs to, as a number to be counted round and round. `attempt` counts from 0 where
 * retries go to the next queue (producer_retry_switch_queue), and is 0 where they do not.
 */
export function queueRank(topic_id: number, uin: bigint, attempt: number): number {
  return crc32Int32(topic_id, crc32Uint64(uin, 0)) + attempt;
}

/** A consumer and its weight. */
export interface RingConsumer {
  readonly addr: Endpoint;
  /** Number of points. */
  readonly scale: number;
}

/** Says which consumer serves a queue. */
export class ConsumerRing<Consumer extends RingConsumer> {
  readonly #ring: Ring<Consumer>;

  constructor(consumers: readonly Consumer[]) {
    const ordered = consumers
      .map((consumer) => ({ consumer, code: encodeAddr(consumer.addr) }))
      .sort((a, b) => (a.code < b.code ? -1 : 1));
    const claims: [bigint, Consumer][] = [];
    for (const { consumer, code } of ordered) {
      const seed = hashUint64(code, 0n);
      for (let i = 0; i < consumer.scale; i += 1) claims.push([low32(hashInt32(i, seed)), consumer]);
    }
    this.#ring = new Ring(claims);
  }

  /** The consumer that serves a queue of a store for a consumer group; undefined if no consumer has a weight. */
  owner(consumer_group_id: number, store_id: number, queue_id: number): Consumer | undefined {
    const key = hashInt32(queue_id, hashInt32(store_id, hashInt32(consumer_group_id, 0n)));
    return this.#ring.at(low32(key))?.[1];
  }
}

function low32(hash: bigint): bigint {
  return BigInt.asUintN(32, hash);
}
