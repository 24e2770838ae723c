/** The methods of the store's RPC service: bodies in, replies out, and what is counted and logged on the way. */
import { performance } from 'node:perf_hooks';
import { PhxError } from '../errors.js';
import type { ReplicatedLog } from '../paxos/replicated_log.js';
import { scanAddRequest } from '../protocol/add_request.js';
import { decode } from '../protocol/messages.js';
import { RetCode, retCodeName, TransportResult } from '../protocol/ret_code.js';
import { SeldomLog, type WarnLogger } from '../rpc/seldom_log.js';
import type { RpcAnswer } from '../rpc/server.js';
import { addItems } from './add.js';
import type { AddChecker } from './add_check.js';
import { type Destination, type Refusal, refusal } from './admission.js';
import { getItems } from './get.js';
import type { StoreMetrics } from './metrics.js';
import { addReply, getReply, refusalReply } from './reply.js';
import type { QueueState, StoreStateMachine } from './state_machine.js';
import type { StoreView } from './store_view.js';

/** A consumer group's acknowledged cursor is ahead of the replicated one. */
export type OnAcknowledged = (group: number, queue_id: number, consumer_group: number) => void;

/** What a `StoreService` is made of. */
export interface StoreServiceOptions {
  readonly view: StoreView;
  readonly metrics: Pick<StoreMetrics, 'answered' | 'added' | 'got'>;
  readonly logger: WarnLogger & { error(message: string): void };
}

/** What requests are served with. */
export interface Replication {
  readonly log: ReplicatedLog;
  readonly machine: StoreStateMachine;
  readonly onAcknowledged: OnAcknowledged;
  readonly checkAdd: AddChecker;
  /** Whether the disk has room for items. */
  readonly hasSpace: () => boolean;
}

/** Add and Get. Until `serve` is called both answer that there is no master. */
export class StoreService {
  /** The configuration that requests are judged by; a reload puts a new one here. */
  view: StoreView;
  readonly methods = {
    Add: (body: Uint8Array): Promise<RpcAnswer> => this.#answer('Add', () => this.#add(body)),
    Get: (body: Uint8Array): Promise<RpcAnswer> => this.#answer('Get', () => this.#get(body)),
  };
  readonly #options: StoreServiceOptions;
  /** By method and code. */
  readonly #refusals: SeldomLog<string>;
  #replication: Replication | null = null;

  constructor(options: StoreServiceOptions) {
    this.#options = options;
    this.view = options.view;
    this.#refusals = new SeldomLog(options.logger);
  }

  /** From now on requests are served. */
  serve(replication: Replication): void {
    this.#replication = replication;
  }

  async #answer(method: string, work: () => Promise<RpcAnswer>): Promise<RpcAnswer> {
    const began_ms = performance.now();
    let result: number = RetCode.SYS;
    try {
      const reply = await work();
      result = reply.result;
      return reply;
    } catch (error) {
      if (error instanceof PhxError && error.code === 'PROTOBUF_PARSE') result = TransportResult.BAD_REQUEST;
      throw error;
    } finally {
      this.#options.metrics.answered(method, result, performance.now() - began_ms);
    }
  }

  async #add(body: Uint8Array): Promise<RpcAnswer> {
    const about = (): string => placeOf(scanAddRequest(body));
    if (this.#replication === null) return this.#refuse('Add', refusal(RetCode.NO_MASTER), about);
    const { log, checkAdd, hasSpace } = this.#replication;
    const added = await addItems(body, { view: this.view, log, checkAdd, hasSpace, now_ms: Date.now });
    if ('redirect' in added) return this.#refuse('Add', added, about);
    this.#options.metrics.added(added.items, added.item_bytes);
    return { result: RetCode.OK, body: addReply(added.first_cursor) };
  }

  async #get(body: Uint8Array): Promise<RpcAnswer> {
    const request = decode('GetRequest', body);
    const about = (): string => `${placeOf(request)}, consumer group ${request.consumer_group_id}`;
    if (this.#replication === null) return this.#refuse('Get', refusal(RetCode.NO_MASTER), about);
    const { log, machine, onAcknowledged } = this.#replication;
    const got = await getItems(request, {
      view: this.view,
      log,
      machine,
      now_ms: () => performance.now(),
      onAcknowledged,
      onUnreadable: (queue, error) => this.#unreadable(queue, error),
    });
    if ('redirect' in got) return this.#refuse('Get', got, about);
    let bytes = 0;
    for (const item of got.items) bytes += item.bytes.length;
    this.#options.metrics.got(got.items.length, bytes, got.skipped_items);
    return { result: RetCode.OK, body: getReply(got.items, got.cursors) };
  }

  #refuse(method: string, { code, redirect }: Refusal, detail: () => string): RpcAnswer {
    // Clients that look for the master are no news.
    if (code !== RetCode.NOT_MASTER && code !== RetCode.NO_MASTER) {
      const line = `${method} refused with ${retCodeName(code)} (${code}): ${detail()}`;
      this.#refusals.warn(`${method} ${code}`, line);
    }
    return { result: code, body: refusalReply(redirect) };
  }

  #unreadable({ queue_id, group }: QueueState, error: PhxError): void {
    this.#options.logger.error(`queue ${queue_id} (group ${group}) cannot be read: ${error.code}: ${error.message}`);
  }
}

function placeOf({ topic_id, store_id, queue_id }: Destination): string {
  return `topic ${topic_id}, store ${store_id}, queue ${queue_id}`;
}
