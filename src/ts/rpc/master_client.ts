/**
 * Finds the replica that leads. Each route (a topic's queue, a lock) has its own master, remembered until it says that
 * it is none any more; from there one goes where the answer points, or tries the replicas one after the other.
 */
import { PhxError } from '../errors.js';
import type { Addr } from '../protocol/messages.js';
import { RetCode } from '../protocol/ret_code.js';
import type { RpcReply } from './call.js';
import type { RpcClient } from './client.js';
import type { RpcService } from './envelope.js';

/** How long a master is remembered, in milliseconds: this, and up to half as long again. */
const REMEMBER_MS = 3_600_000;
/** Routes that are remembered; beyond that the oldest is forgotten. */
const ROUTES_MAX = 100_000;

export interface MasterCall {
  /** Name of the route, the same for all calls that have the same master. */
  readonly route: string;
  /** The replicas, from the configuration. */
  readonly candidates: readonly Addr[];
  readonly service: RpcService;
  readonly method: string;
  /** Whether the call may be made again although the first one may have been carried out. */
  readonly idempotent: boolean;
  /** The request's bytes; the address that is called is part of it. */
  readonly encodeFor: (target: Addr) => Uint8Array;
  /** Where a refusal sends the caller, null if nowhere. */
  readonly redirectOf: (body: Uint8Array) => Addr | null;
  readonly signal?: AbortSignal;
  /** How long one try may go without an answer, in milliseconds. */
  readonly timeout_ms?: number;
}

/** The answer, and who gave it. */
export interface MasterResponse extends RpcReply {
  readonly addr: Addr;
}

interface Remembered {
  readonly addr: Addr;
  readonly until_ms: number;
}

export interface MasterClientOptions {
  readonly now_ms?: () => number;
  readonly random?: () => number;
}

/** What one try came to. */
type Try = { readonly response: MasterResponse; readonly error?: undefined } | { readonly error: PhxError };

/** See the head of this file. Does not own the client that it is given. */
export class MasterClient {
  readonly #client: Pick<RpcClient, 'call'>;
  readonly #now_ms: () => number;
  readonly #random: () => number;
  readonly #masters = new Map<string, Remembered>();

  constructor(client: Pick<RpcClient, 'call'>, options: MasterClientOptions = {}) {
    this.#client = client;
    this.#now_ms = options.now_ms ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
  }

  /**
   * Calls the master of the route. Resolves to its answer, or to the last refusal (NOT_MASTER, NO_MASTER, SVR_BLOCK,
   * and SYS where the call may be made again) if no replica answers better. Throws what `RpcClient.call` throws if the last
   * try got no answer, and at once if the call is not idempotent and may have been carried out; CONFIG if there are no
   * candidates.
   */
  async call(call: MasterCall): Promise<MasterResponse> {
    const { candidates, route } = call;
    if (candidates.length === 0) throw new PhxError('CONFIG', `no replicas are configured for ${route}`);
    const known = this.#recall(route);
    let next = known ?? this.#anyBut(candidates, null);
    // The remembered address may lie outside the configuration that is valid now: it costs no try.
    const tries = candidates.length + (known === null ? 0 : 1);
    for (let left = tries; ; left -= 1) {
      const target = next;
      const outcome = await this.#try(call, target);
      const error = outcome.error;
      if (error !== undefined) {
        if (!isUnreached(error)) throw error;
        this.#masters.delete(route);
        if (!mayTryAgain(call, error) || left === 1) throw error;
        next = this.#anyBut(candidates, target);
        continue;
      }
      const { response } = outcome;
      if (!sendsElsewhere(call, response.result)) {
        if (response.result === RetCode.OK) this.#remember(route, target);
        return response;
      }
      // A failure says nothing about who leads.
      if (response.result !== RetCode.SYS) this.#masters.delete(route);
      if (left === 1) return response;
      next = this.#redirection(call, response) ?? this.#anyBut(candidates, target);
    }
  }

  async #try(call: MasterCall, addr: Addr): Promise<Try> {
    const options = {
      ...(call.signal === undefined ? {} : { signal: call.signal }),
      ...(call.timeout_ms === undefined ? {} : { timeout_ms: call.timeout_ms }),
    };
    try {
      const response = await this.#client.call(addr, call.service, call.method, call.encodeFor(addr), options);
      return { response: { ...response, addr } };
    } catch (error) {
      if (error instanceof PhxError) return { error };
      throw error;
    }
  }

  /** The replica that a refusal names, as it stands in the configuration; others are not believed. */
  #redirection({ candidates, redirectOf }: MasterCall, { result, body }: MasterResponse): Addr | null {
    const named = result === RetCode.NOT_MASTER ? redirectOf(body) : null;
    return candidates.find(({ ip, port }) => ip === named?.ip && port === named.port) ?? null;
  }

  /** The one after `failed` in the list, so that all get their turn; a random one to begin with. */
  #anyBut(candidates: readonly Addr[], failed: Addr | null): Addr {
    const at = failed === null ? -1 : candidates.findIndex(({ ip, port }) => ip === failed.ip && port === failed.port);
    const index = at === -1 ? Math.floor(this.#random() * candidates.length) : (at + 1) % candidates.length;
    const candidate = candidates[index];
    if (candidate === undefined) throw new PhxError('CONFIG', 'no replicas are configured');
    return candidate;
  }

  #recall(route: string): Addr | null {
    const remembered = this.#masters.get(route);
    return remembered !== undefined && remembered.until_ms > this.#now_ms() ? remembered.addr : null;
  }

  #remember(route: string, addr: Addr): void {
    if (this.#recall(route) === addr) return;
    // Entered anew, it is the youngest in the order of the map.
    this.#masters.delete(route);
    this.#masters.set(route, { addr, until_ms: this.#now_ms() + REMEMBER_MS * (1 + this.#random() / 2) });
    const [oldest] = this.#masters.keys();
    if (this.#masters.size > ROUTES_MAX && oldest !== undefined) this.#masters.delete(oldest);
  }
}

function isUnreached({ code }: PhxError): boolean {
  return code === 'RPC_CONNECT' || code === 'RPC_IO' || code === 'RPC_TIMEOUT';
}

function mayTryAgain({ idempotent }: MasterCall, { code }: PhxError): boolean {
  return code === 'RPC_CONNECT' || idempotent;
}

/** Whether another replica may do better. One that failed may have carried out the call all the same. */
function sendsElsewhere({ idempotent }: MasterCall, result: number): boolean {
  switch (result) {
    case RetCode.NOT_MASTER:
    case RetCode.NO_MASTER:
    case RetCode.SVR_BLOCK:
      return true;
    case RetCode.SYS:
      return idempotent;
    default:
      return false;
  }
}
