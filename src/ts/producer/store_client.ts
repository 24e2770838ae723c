import { PhxError } from '../errors.js';
import { type Addr, decode, encode, type GetRequest, type GetResponse, type Init } from '../protocol/messages.js';
import { RetCode, TransportResult } from '../protocol/ret_code.js';
import type { MasterClient } from '../rpc/master_client.js';
import { addBody } from './add_body.js';
import { EnqueueError } from './enqueue_error.js';

/** A queue of a store, and the store's replicas. */
export interface Route {
  readonly topic_id: number;
  readonly store_id: number;
  readonly queue_id: number;
  readonly addrs: readonly Addr[];
}

/** What a Get came back with; `response` is undefined if there was no answer, or none that can be read. */
export interface GetOutcome {
  readonly ret: number;
  readonly response: GetResponse | undefined;
}

/** A text that names the queue; queues of one store may have different masters. */
export function routeKey({ topic_id, store_id, queue_id }: Route): string {
  return `${topic_id}:${store_id}:${queue_id}`;
}

/** Add and Get at the master of a queue. */
export class StoreClient {
  readonly #masters: Pick<MasterClient, 'call'>;

  constructor(masters: Pick<MasterClient, 'call'>) {
    this.#masters = masters;
  }

  /**
   * Adds encoded QItems to a queue, and resolves to the cursor of the first. Never goes to a second replica when a
   * first one may have taken the items. Throws EnqueueError.
   */
  async add(route: Route, items: readonly Uint8Array[], signal?: AbortSignal): Promise<bigint> {
    let result: number;
    let body: Uint8Array;
    try {
      ({ result, body } = await this.#masters.call({
        route: routeKey(route),
        candidates: route.addrs,
        service: 'store',
        method: 'Add',
        idempotent: false,
        encodeFor: addBody(route, items),
        redirectOf,
        ...(signal === undefined ? {} : { signal }),
      }));
    } catch (cause) {
      if (cause instanceof PhxError) throw EnqueueError.ofNoAnswer(cause);
      throw cause;
    }
    if (result !== RetCode.OK) throw EnqueueError.ofAnswer(result, `store ${route.store_id}`);
    return cursorOf(body);
  }

  /** Fetches from a queue, or only acknowledges. A Get that is repeated does no harm. Never rejects. */
  async get(route: Route, request: Init<GetRequest>, signal: AbortSignal): Promise<GetOutcome> {
    try {
      const { result, body } = await this.#masters.call({
        route: routeKey(route),
        candidates: route.addrs,
        service: 'store',
        method: 'Get',
        idempotent: true,
        encodeFor: ({ ip, port, paxos_port }) =>
          encode('GetRequest', { ...request, master_addr: { ip, port, paxos_port } }),
        redirectOf,
        signal,
      });
      return { ret: result, response: result === RetCode.OK ? decode('GetResponse', body) : undefined };
    } catch (cause) {
      if (!(cause instanceof PhxError)) throw cause;
      const ret = cause.code === 'RPC_TIMEOUT' ? TransportResult.SOCKET_TIMEOUT : RetCode.SYS;
      return { ret: cause.code === 'PROTOBUF_PARSE' ? RetCode.PROTOBUF_PARSE : ret, response: undefined };
    }
  }
}

/** Responses to Add and Get have the same field there. */
function redirectOf(body: Uint8Array): Addr | null {
  try {
    return decode('AddResponse', body).redirect_addr ?? null;
  } catch (cause) {
    if (cause instanceof PhxError) return null;
    throw cause;
  }
}

function cursorOf(body: Uint8Array): bigint {
  try {
    return decode('AddResponse', body).cursor_id;
  } catch (cause) {
    // The items are in the queue, but who answers like this cannot be believed.
    throw new EnqueueError(RetCode.PROTOBUF_PARSE, 'the answer to an Add cannot be read', {
      code: 'PROTOBUF_PARSE',
      outcome_unknown: true,
      cause,
    });
  }
}
