/** Makes calls: connections are kept and shared, every call has a time limit, and its failure says what is certain. */
import { connect } from 'node:net';
import { type buildConnector, type Dispatcher, Pool } from 'undici';
import { PhxError } from '../errors.js';
import { RpcCall, type RpcReply } from './call.js';
import { type RpcService, rpcPath } from './envelope.js';

/** Where a server takes requests. */
export interface RpcAddress {
  readonly ip: string;
  readonly port: number;
}

export interface RpcClientOptions {
  /** Default 200. */
  readonly connect_timeout_ms?: number;
  /** Limit of a call that names none, from its start to the end of the reply. Default 5000. */
  readonly socket_timeout_ms?: number;
  /** Connections to one address. Default 128; further calls wait for one of them. */
  readonly connections_max?: number;
  /** Calls to one address under way or waiting. Default 16384; further ones fail at once. */
  readonly calls_max?: number;
  /** Size of a reply's body. Default 128 MiB. */
  readonly reply_bytes_max?: number;
}

export interface RpcCallOptions {
  readonly signal?: AbortSignal;
  readonly timeout_ms?: number;
}

/** Addresses to which connections are kept at a time; that of the least recently called goes first. */
const ADDRESSES_MAX = 1_024;

/** A connection that rests so long is closed, unless its server says that it keeps it longer. */
const REST_MS = 4_000;
const REST_MS_MAX = 600_000;

/** Connections and calls of one address. */
interface Peer {
  readonly pool: Pool;
  calls: number;
}

export class RpcClient {
  readonly #options: Required<RpcClientOptions>;
  /** The least recently called first. */
  readonly #peers = new Map<string, Peer>();
  readonly #closing: Promise<void>[] = [];
  #closed = false;

  constructor(options: RpcClientOptions = {}) {
    this.#options = {
      connect_timeout_ms: 200,
      socket_timeout_ms: 5_000,
      connections_max: 128,
      calls_max: 16_384,
      reply_bytes_max: 128 * 1024 * 1024,
      ...options,
    };
  }

  /**
   * Calls a method. Whatever code the server answers is a reply; a reply without a code counts as -1. Throws PhxError
   * RPC_CONNECT if nothing was sent, RPC_IO if the connection broke and RPC_TIMEOUT if the reply did not come in time
   * (with both the call may have been run), ABORTED if the signal fired, CLOSED if the client is closed.
   */
  call(
    address: RpcAddress,
    service: RpcService,
    method: string,
    body: Uint8Array,
    options: RpcCallOptions = {},
  ): Promise<RpcReply> {
    const where = `${address.ip}:${address.port}`;
    if (this.#closed) return Promise.reject(new PhxError('CLOSED', 'the RPC client is closed'));
    if (options.signal?.aborted === true)
      return Promise.reject(new PhxError('ABORTED', `a call of ${where} was aborted`));
    const peer = this.#peerOf(address);
    if (peer.calls >= this.#options.calls_max) {
      const reason = `${peer.calls} calls of ${where} are under way or waiting`;
      return Promise.reject(new PhxError('RPC_CONNECT', reason, { retryable: true }));
    }
    peer.calls += 1;
    return new Promise((resolve, reject) => {
      const call = new RpcCall({
        name: `${service}.${method} of ${where}`,
        timeout_ms: options.timeout_ms ?? this.#options.socket_timeout_ms,
        reply_bytes_max: this.#options.reply_bytes_max,
        signal: options.signal,
        resolve,
        reject: (error) =>
          reject(this.#closed ? new PhxError('CLOSED', 'the RPC client was closed', { cause: error }) : error),
        onReleased: () => {
          peer.calls -= 1;
        },
      });
      peer.pool.dispatch(this.#request(service, method, body), call);
    });
  }

  /** Ends all calls with CLOSED and closes all connections. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { pool } of this.#peers.values()) this.#closing.push(pool.destroy());
    this.#peers.clear();
    await Promise.all(this.#closing);
  }

  #request(service: RpcService, method: string, body: Uint8Array): Dispatcher.DispatchOptions {
    return { path: rpcPath(service, method), method: 'POST', body, headersTimeout: 0, bodyTimeout: 0 };
  }

  #peerOf(address: RpcAddress): Peer {
    const host = address.ip.includes(':') ? `[${address.ip}]` : address.ip;
    const origin = `http://${host}:${address.port}`;
    const peer = this.#peers.get(origin) ?? { pool: this.#newPool(origin), calls: 0 };
    this.#peers.delete(origin);
    this.#peers.set(origin, peer);
    const [oldest] = this.#peers;
    if (this.#peers.size > ADDRESSES_MAX && oldest !== undefined) {
      this.#peers.delete(oldest[0]);
      // Lets the calls that are under way end; each has a time limit.
      this.#closing.push(oldest[1].pool.close());
    }
    return peer;
  }

  #newPool(origin: string): Pool {
    return new Pool(origin, {
      connections: this.#options.connections_max,
      pipelining: 1,
      keepAliveTimeout: REST_MS,
      keepAliveMaxTimeout: REST_MS_MAX,
      connect: connector(this.#options.connect_timeout_ms),
      allowH2: false,
    });
  }
}

function connector(connect_timeout_ms: number): buildConnector.connector {
  return (options, callback) => {
    const socket = connect({ host: options.hostname, port: Number(options.port), noDelay: true, keepAlive: true });
    const timer = setTimeout(() => {
      socket.destroy(new Error(`no connection within ${connect_timeout_ms} ms`));
    }, connect_timeout_ms);
    const onError = (error: Error): void => {
      clearTimeout(timer);
      callback(error, null);
    };
    socket.once('error', onError).once('connect', () => {
      clearTimeout(timer);
      socket.off('error', onError);
      callback(null, socket);
    });
  };
}
