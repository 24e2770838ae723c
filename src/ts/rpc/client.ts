/** Protobuf over HTTP, the client's side: connections are pooled by address and kept alive. */
import { Agent, errors, request } from 'undici';
import { assert, PhxError } from '../errors.js';
import { RetCode } from '../protocol/ret_code.js';

const RESULT_HEADER = 'x-phxrpc-result';
const URI_PREFIX = '/phxqueue_phxrpc';

/** How long an unused connection is kept, in milliseconds; less than servers keep theirs, so that they do not meet. */
const IDLE_MS = 20_000;

export interface RpcClientOptions {
  readonly connect_timeout_ms?: number;
  /** Without a byte from the server for this time a call fails with RPC_TIMEOUT. */
  readonly socket_timeout_ms?: number;
  /** Connections to one address; calls beyond that wait for one to be free. */
  readonly connections_max?: number;
  /** Bytes of a response's body. */
  readonly response_bytes_max?: number;
}

const DEFAULTS: Required<RpcClientOptions> = {
  connect_timeout_ms: 200,
  socket_timeout_ms: 5_000,
  connections_max: 256,
  response_bytes_max: 64 * 1024 * 1024,
};

export interface RpcAddress {
  readonly ip: string;
  readonly port: number;
}

export interface RpcCallOptions {
  readonly signal?: AbortSignal;
  /** In place of the client's `socket_timeout_ms`. */
  readonly timeout_ms?: number;
}

/** What the server answered. `result` is the method's return code, -1 where the answer has none. */
export interface RpcResponse {
  readonly result: number;
  readonly body: Uint8Array;
}

/** See the head of this file. */
export class RpcClient {
  readonly #agent: Agent;
  readonly #socket_timeout_ms: number;

  constructor(options: RpcClientOptions = {}) {
    const settings = { ...DEFAULTS, ...options };
    this.#socket_timeout_ms = settings.socket_timeout_ms;
    this.#agent = new Agent({
      connect: { timeout: settings.connect_timeout_ms },
      connections: settings.connections_max,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
      maxResponseSize: settings.response_bytes_max,
      pipelining: 1,
    });
  }

  /**
   * Calls a method. Throws PhxError RPC_CONNECT (nothing was sent), RPC_IO or RPC_TIMEOUT (the server may have done what
   * it was asked), ABORTED (`signal` fired; likewise), CLOSED.
   */
  async call(
    address: RpcAddress,
    service: string,
    method: string,
    body: Uint8Array,
    options: RpcCallOptions = {},
  ): Promise<RpcResponse> {
    const timeout_ms = options.timeout_ms ?? this.#socket_timeout_ms;
    try {
      const response = await request(`http://${address.ip}:${address.port}${URI_PREFIX}/${service}/${method}`, {
        dispatcher: this.#agent,
        method: 'POST',
        body,
        headersTimeout: timeout_ms,
        bodyTimeout: timeout_ms,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      const answer = await response.body.arrayBuffer();
      return { result: resultOf(response.headers[RESULT_HEADER]), body: new Uint8Array(answer) };
    } catch (cause) {
      throw asPhxError(cause, `${service}.${method} at ${address.ip}:${address.port}`, options.signal);
    }
  }

  /** Closes all connections; calls that run fail with CLOSED. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

function resultOf(header: string | string[] | undefined): number {
  const result = typeof header === 'string' ? Number(header) : Number.NaN;
  return Number.isInteger(result) ? result : RetCode.SYS;
}

function asPhxError(cause: unknown, what: string, signal: AbortSignal | undefined): PhxError {
  assert(cause instanceof Error, 'a failed call gives an Error');
  if (signal?.aborted === true) return new PhxError('ABORTED', `${what}: aborted by the caller`, { cause });
  const { code, syscall } = fieldsOf(cause);
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') {
    return new PhxError('CLOSED', `${what}: the client is closed`, { cause });
  }
  if (cause instanceof errors.ConnectTimeoutError || syscall === 'connect' || syscall === 'getaddrinfo') {
    return new PhxError('RPC_CONNECT', `${what}: cannot connect: ${cause.message}`, { retryable: true, cause });
  }
  if (cause instanceof errors.HeadersTimeoutError || cause instanceof errors.BodyTimeoutError) {
    return new PhxError('RPC_TIMEOUT', `${what}: no answer in time`, { retryable: true, cause });
  }
  return new PhxError('RPC_IO', `${what}: ${cause.message}`, { retryable: true, cause });
}

function fieldsOf(error: Error): { code: unknown; syscall: unknown } {
  return { code: 'code' in error ? error.code : undefined, syscall: 'syscall' in error ? error.syscall : undefined };
}
