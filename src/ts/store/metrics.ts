/** What a store measures. The names are an interface: people's dashboards use them. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { assert } from '../errors.js';
import type { PaxosNode } from '../paxos/node.js';
import { retCodeName } from '../protocol/ret_code.js';
import type { RpcServer } from '../rpc/server.js';
import type { LogEngine } from '../wal/engine.js';
import type { CursorSync } from './cursor_sync.js';
import type { StoreStateMachine } from './state_machine.js';
import type { StoreView } from './store_view.js';

const latency_buckets_s = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];

/** The parts of a running store that are asked when the metrics are read. */
export interface MeasuredParts {
  readonly node: PaxosNode;
  readonly log: LogEngine;
  readonly machine: StoreStateMachine;
  readonly cursor_sync: CursorSync;
  readonly rpc: RpcServer;
  readonly view: () => StoreView;
  /** Whether there is a damaged log that was set aside. */
  readonly set_aside: () => boolean;
}

/** Counts requests as they end; everything else is read from the parts when somebody asks. */
export class StoreMetrics {
  readonly registry: Registry;
  readonly #requests: Counter<'method' | 'result'>;
  readonly #latency: Histogram<'method'>;
  readonly #items_added: Counter;
  readonly #item_bytes_added: Counter;
  readonly #items_got: Counter;
  readonly #item_bytes_got: Counter;
  readonly #items_skipped: Counter;
  /** By method and result: to look up a labelled counter costs more than to count. */
  readonly #request_counters = new Map<string, Counter.Internal>();
  readonly #latencies = new Map<string, Histogram.Internal<'method'>>();

  constructor(registry: Registry) {
    this.registry = registry;
    const registers = [registry];
    const counter = (name: string, help: string): Counter => new Counter({ name, help, registers });
    this.#requests = new Counter({
      name: 'phxqueue_store_requests_total',
      help: 'Requests answered, by method and result',
      labelNames: ['method', 'result'],
      registers,
    });
    this.#latency = new Histogram({
      name: 'phxqueue_store_request_seconds',
      help: 'Time from the whole request to its answer',
      labelNames: ['method'],
      buckets: latency_buckets_s,
      registers,
    });
    this.#items_added = counter('phxqueue_store_items_added_total', 'Items of acknowledged Adds');
    this.#item_bytes_added = counter(
      'phxqueue_store_item_bytes_added_total',
      'Bytes of the items of acknowledged Adds',
    );
    this.#items_got = counter('phxqueue_store_items_got_total', 'Items handed out');
    this.#item_bytes_got = counter('phxqueue_store_item_bytes_got_total', 'Bytes of the items handed out');
    this.#items_skipped = counter(
      'phxqueue_store_items_skipped_total',
      'Items that a group mask or skip rule held back',
    );
  }

  /** Counts a request that was answered with `result` after `elapsed_ms`. */
  answered(method: string, result: number, elapsed_ms: number): void {
    const key = `${method} ${result}`;
    let requests = this.#request_counters.get(key);
    if (requests === undefined) {
      requests = this.#requests.labels(method, retCodeName(result));
      this.#request_counters.set(key, requests);
    }
    requests.inc();
    let latency = this.#latencies.get(method);
    if (latency === undefined) {
      latency = this.#latency.labels(method);
      this.#latencies.set(method, latency);
    }
    latency.observe(elapsed_ms / 1_000);
  }

  added(items: number, bytes: number): void {
    this.#items_added.inc(items);
    this.#item_bytes_added.inc(bytes);
  }

  got(items: number, bytes: number, skipped: number): void {
    this.#items_got.inc(items);
    this.#item_bytes_got.inc(bytes);
    this.#items_skipped.inc(skipped);
  }

  /** Registers the gauges of a store whose parts are all there. */
  observe(parts: MeasuredParts): void {
    this.#observeGroups(parts);
    this.#observeQueues(parts);
    this.#observeLog(parts);
    this.#observePeers(parts.node);
    this.#observeRpc(parts.rpc);
  }

  #observeGroups({ node }: MeasuredParts): void {
    const perGroup = (name: string, help: string, read: (group: number) => number): void => {
      this.#gauge(name, help, ['group'], (set) => {
        for (let group = 0; group < node.groups; group += 1) set(read(group), String(group));
      });
    };
    perGroup('phxqueue_store_master', '1 where this replica is master of the Paxos group', (group) =>
      node.mastership(group).role === 'master' ? 1 : 0,
    );
    perGroup('phxqueue_store_master_replica', 'Replica that leads the Paxos group, 0 if unknown', (group) => {
      const mastership = node.mastership(group);
      if (mastership.role === 'follower') return mastership.master;
      return mastership.role === 'master' ? node.self : 0;
    });
    perGroup(
      'phxqueue_paxos_chosen_instance',
      'Highest instance up to which all are known to be chosen',
      (group) => node.status(group).chosen_through,
    );
    perGroup('phxqueue_paxos_applied_instance', 'Highest instance applied here', (group) => node.appliedThrough(group));
    perGroup(
      'phxqueue_paxos_checkpoint_instance',
      'Instance of the newest checkpoint, 0 if there is none',
      (group) => node.status(group).checkpoint,
    );
    perGroup(
      'phxqueue_paxos_first_retained_instance',
      'Lowest instance that the log keeps',
      (group) => node.status(group).first_retained,
    );
    perGroup(
      'phxqueue_paxos_stands_still',
      '1 where this replica takes no part in the Paxos group until its state has come from another one',
      (group) => (node.status(group).stands_still ? 1 : 0),
    );
    perGroup(
      'phxqueue_paxos_waiting_proposals',
      'Proposals that wait for a place in the pipeline',
      (group) => node.status(group).waiting,
    );
  }

  #observeQueues({ machine, cursor_sync, view }: MeasuredParts): void {
    this.#gauge('phxqueue_store_queue_items', 'Items of a queue that are kept', ['queue'], (set) => {
      for (const { queue_id, index } of machine.queues()) set(index.items, String(queue_id));
    });
    this.#gauge(
      'phxqueue_store_backlog_items',
      'Items of a queue that a consumer group has not acknowledged; true on the master',
      ['queue', 'consumer_group'],
      (set) => {
        for (const { queue_id, index, cursors } of machine.queues()) {
          for (const group of view().groupsOf(queue_id)) {
            set(index.countAfter(cursors.of(group).prev), String(queue_id), String(group));
          }
        }
      },
    );
    this.#gauge('phxqueue_store_index_bytes', 'Memory of the queue indexes', [], (set) => {
      let bytes = 0;
      for (const { index } of machine.queues()) bytes += index.memoryBytes;
      set(bytes);
    });
    this.#gauge('phxqueue_store_cursors_waiting', 'Acknowledgements that wait to be replicated', [], (set) =>
      set(cursor_sync.waiting),
    );
  }

  #observeLog({ log, set_aside }: MeasuredParts): void {
    for (const [name, help, read] of [
      ['phxqueue_log_segments', 'Segment files', () => log.stats().segments],
      ['phxqueue_log_disk_bytes', 'Bytes of all files of the log', () => log.stats().disk_bytes],
      ['phxqueue_log_live_bytes', 'Bytes of the records that are still needed', () => log.stats().live_bytes],
      [
        'phxqueue_log_rewritten_bytes',
        'Bytes of records moved out of sparse segments since the start',
        () => log.stats().rewritten_bytes,
      ],
      [
        'phxqueue_log_low_on_space',
        '1 while the disk has no room for another segment: Adds are refused',
        () => (log.low_on_space ? 1 : 0),
      ],
      [
        'phxqueue_log_set_aside',
        '1 while a damaged log that was set aside is in the data folder',
        () => (set_aside() ? 1 : 0),
      ],
      ['phxqueue_log_index_bytes', 'Memory of the index of the log', () => log.stats().index_bytes],
      ['phxqueue_log_appended_records', 'Records appended since the start', () => log.stats().appended_records],
      ['phxqueue_log_appended_bytes', 'Bytes appended since the start', () => log.stats().appended_bytes],
      ['phxqueue_log_syncs', 'Syncs since the start', () => log.stats().syncs],
    ] as const) {
      this.#gauge(name, help, [], (set) => set(read()));
    }
  }

  #observePeers(node: PaxosNode): void {
    for (const [name, help, read] of [
      ['phxqueue_paxos_connected_peers', 'Replicas that this one is connected to', 'connected_peers'],
      ['phxqueue_paxos_sent_bytes', 'Bytes sent to other replicas since the start', 'sent_bytes'],
      ['phxqueue_paxos_received_bytes', 'Bytes received from other replicas since the start', 'received_bytes'],
      ['phxqueue_paxos_dropped_messages', 'Messages that could not be sent since the start', 'dropped_messages'],
    ] as const) {
      this.#gauge(name, help, [], (set) => set(node.transportStats()[read]));
    }
  }

  #observeRpc(rpc: RpcServer): void {
    for (const [name, help, read] of [
      ['phxqueue_rpc_connections', 'Connections of clients', 'connections'],
      ['phxqueue_rpc_requests_in_work', 'Requests that are being answered', 'requests_in_work'],
      ['phxqueue_rpc_buffered_bytes', 'Bytes held for requests and replies', 'buffered_bytes'],
      ['phxqueue_rpc_overloads', 'Connections and requests refused for lack of room since the start', 'overloads'],
      ['phxqueue_rpc_oversized', 'Requests refused for their size since the start', 'oversized'],
      ['phxqueue_rpc_malformed', 'Requests that could not be understood since the start', 'malformed'],
    ] as const) {
      this.#gauge(name, help, [], (set) => set(rpc.stats()[read]));
    }
  }

  #gauge(
    name: string,
    help: string,
    labelNames: readonly string[],
    read: (set: (value: number, ...labels: string[]) => void) => void,
  ): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => {
        gauge.reset();
        read((value, ...labels) => {
          assert(labels.length === labelNames.length, 'a value has all labels of its gauge');
          gauge.labels(...labels).set(value);
        });
      },
    });
  }
}
