/**
 * Takes calls: `POST /phxqueue_phxrpc/<service>/<Method>` with a protobuf body; the reply carries the return code in
 * `X-PHXRPC-Result`. Every reply has that header and a Content-Length, refusals too: clients of the original wait for
 * the end of the connection when there is no length.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { assert, PhxError } from '../errors.js';
import { decode, encode } from '../protocol/messages.js';
import { RetCode, TransportResult } from '../protocol/ret_code.js';
import { Connection } from './connection.js';
import { RESULT_HEADER_WRITTEN, type RpcService, rpcPath } from './envelope.js';
import { HEADER_BYTES_MAX, RPC_LIMITS_DEFAULT, type RpcLimits } from './limits.js';
import { announcedBytes, discardBody, receiveBody } from './request_body.js';
import { SeldomLog, type WarnLogger } from './seldom_log.js';

/** How often requests and headers that take too long are looked for. */
const OVERDUE_CHECK_MS = 1_000;

/** What a method answers. The parts of the body are sent one after the other. */
export interface RpcAnswer {
  readonly result: number;
  readonly body: readonly Uint8Array[];
}

/**
 * Runs a call. Rejecting with PhxError PROTOBUF_PARSE answers -22 (the body is not the message), with another PhxError
 * SYS; anything else is a defect.
 */
export type RpcMethod = (body: Uint8Array) => Promise<RpcAnswer>;

export interface RpcServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly service: RpcService;
  readonly methods: Readonly<Record<string, RpcMethod>>;
  readonly limits?: Partial<RpcLimits>;
  /** Answers a body that is too large. Default SIZE_TOO_LARGE. */
  readonly oversize_result?: number;
  readonly logger: WarnLogger;
  /** Receives what must not happen. Default: it is thrown outside of everything and ends the process. */
  readonly onDefect?: (error: unknown) => void;
}

/** Counters since the start, and gauges. */
export interface RpcStats {
  readonly connections: number;
  readonly requests_in_work: number;
  readonly buffered_bytes: number;
  readonly requests: number;
  /** Refused for lack of room: connections, requests or bytes. */
  readonly overloads: number;
  readonly oversized: number;
  /** Bytes that are no HTTP, URIs that are none of ours, bodies that are not the message or never came. */
  readonly malformed: number;
}

interface Refusal {
  readonly status: number;
  readonly result: number;
  readonly close?: boolean;
}

/** One request and its reply. */
interface Exchange {
  readonly connection: Connection;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly waits_for_continue: boolean;
}

const NO_SUCH_METHOD: Refusal = { status: 404, result: TransportResult.BROKEN };
const NOT_A_POST: Refusal = { status: 405, result: TransportResult.BROKEN };
const NO_SUCH_EXPECTATION: Refusal = { status: 417, result: TransportResult.BAD_REQUEST };
const OVERLOAD: Refusal = { status: 200, result: RetCode.PROPOSE_FAST_REJECT };
const NO_CONNECTION_FREE: Refusal = { ...OVERLOAD, close: true };

/** What to answer to bytes that cannot be understood as a request, by the parser's code. */
const UNREADABLE: ReadonlyMap<string, Refusal> = new Map([
  ['HPE_HEADER_OVERFLOW', { status: 431, result: TransportResult.BAD_REQUEST }],
  ['ERR_HTTP_REQUEST_TIMEOUT', { status: 408, result: TransportResult.SOCKET_TIMEOUT }],
]);
/** The parser's codes for a client that broke off. */
const WENT_AWAY: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'HPE_INVALID_EOF_STATE']);
const UNREADABLE_OTHERWISE: Refusal = { status: 400, result: TransportResult.BAD_REQUEST };

export class RpcServer {
  readonly #server: Server;
  readonly #limits: RpcLimits;
  readonly #routes: ReadonlyMap<string, RpcMethod>;
  readonly #oversize: Refusal;
  readonly #log: SeldomLog<'overload' | 'oversize' | 'malformed' | 'failed'>;
  readonly #onDefect: (error: unknown) => void;
  readonly #connections = new Map<Duplex, Connection>();
  #requests_in_work = 0;
  #buffered_bytes = 0;
  #requests = 0;
  #overloads = 0;
  #oversized = 0;
  #malformed = 0;
  #draining = false;
  #closing: Promise<void> | null = null;

  private constructor(options: RpcServerOptions) {
    this.#limits = { ...RPC_LIMITS_DEFAULT, ...options.limits };
    const methods = Object.entries({ PHXEcho: echo, ...options.methods });
    this.#routes = new Map(methods.map(([name, method]) => [rpcPath(options.service, name), method]));
    this.#oversize = { status: 200, result: options.oversize_result ?? RetCode.SIZE_TOO_LARGE };
    this.#log = new SeldomLog(options.logger);
    this.#onDefect = options.onDefect ?? throwOutside;
    const { request_timeout_ms, idle_timeout_ms, connections_max } = this.#limits;
    const server = createServer({
      keepAliveTimeout: idle_timeout_ms,
      headersTimeout: request_timeout_ms,
      requestTimeout: request_timeout_ms,
      connectionsCheckingInterval: Math.min(OVERDUE_CHECK_MS, request_timeout_ms),
      maxHeaderSize: HEADER_BYTES_MAX,
      requireHostHeader: false,
      noDelay: true,
    });
    server.timeout = idle_timeout_ms;
    server.maxRequestsPerSocket = 0;
    server.maxConnections = 2 * connections_max;
    server.on('connection', (socket) => this.#onConnection(socket));
    server.on('drop', () => this.#countOverload('connection'));
    server.on('request', (request, response) => this.#onRequest(request, response, false));
    server.on('checkContinue', (request, response) => this.#onRequest(request, response, true));
    server.on('checkExpectation', (request, response) => this.#onRequest(request, response, false));
    server.on('clientError', (error, socket) => this.#onUnreadable(error, socket));
    this.#server = server;
  }

  /** Starts to serve. Throws PhxError CONFIG if it cannot listen there. */
  static async listen(options: RpcServerOptions): Promise<RpcServer> {
    const server = new RpcServer(options);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', (cause) => {
        const where = `${options.host}:${options.port}`;
        reject(new PhxError('CONFIG', `cannot listen on ${where}: ${cause.message}`, { cause }));
      });
      server.#server.listen(options.port, options.host, () => resolve());
    });
    return server;
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#server.address();
    assert(address !== null && typeof address === 'object', 'an RPC server listens on a TCP port until it is closed');
    return address.port;
  }

  stats(): RpcStats {
    return {
      connections: this.#connections.size,
      requests_in_work: this.#requests_in_work,
      buffered_bytes: this.#buffered_bytes,
      requests: this.#requests,
      overloads: this.#overloads,
      oversized: this.#oversized,
      malformed: this.#malformed,
    };
  }

  /** From now on each reply ends its connection: clients leave before anything is closed under what they are sending. */
  drain(): void {
    this.#draining = true;
  }

  /** Stops accepting, lets requests that arrived be answered for `grace_ms`, then closes every connection. */
  close(grace_ms: number): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      const timer = setTimeout(() => {
        for (const socket of this.#connections.keys()) socket.destroy();
      }, grace_ms);
      this.#server.close(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    return this.#closing;
  }

  #onConnection(socket: Duplex): void {
    const surplus = this.#connections.size >= this.#limits.connections_max;
    const onReleased = (bytes: number): void => {
      this.#buffered_bytes -= bytes;
    };
    this.#connections.set(socket, new Connection(socket, surplus, onReleased));
    socket.once('close', () => this.#connections.delete(socket));
  }

  #onRequest(request: IncomingMessage, response: ServerResponse, waits_for_continue: boolean): void {
    const connection = this.#connections.get(request.socket);
    // One connection may bring two requests and its end at once.
    if (connection === undefined) return;
    this.#requests += 1;
    this.#exchange({ connection, request, response, waits_for_continue }).catch(this.#onDefect);
  }

  async #exchange(exchange: Exchange): Promise<void> {
    const refusal = this.#refusalOf(exchange);
    if (refusal !== null) return this.#refuse(exchange, refusal);
    if (exchange.waits_for_continue) exchange.response.writeContinue();
    let reserved_bytes = 0;
    const reserve = (bytes: number): boolean => {
      if (this.#buffered_bytes + bytes > this.#limits.buffered_bytes_max) return false;
      this.#buffered_bytes += bytes;
      reserved_bytes += bytes;
      return true;
    };
    const release = (): void => {
      this.#buffered_bytes -= reserved_bytes;
      reserved_bytes = 0;
    };
    const received = await receiveBody(exchange.request, this.#limits.body_bytes_max, reserve);
    switch (received.kind) {
      case 'complete':
        return this.#answer(exchange, received.body).finally(release);
      case 'gone':
        release();
        return this.#countMalformed('a request broke off');
      case 'too_large':
        release();
        return this.#refuse(exchange, this.#oversize);
      case 'overload':
        release();
        return this.#refuse(exchange, OVERLOAD);
    }
  }

  /** Why a request is refused by what its headers say. */
  #refusalOf({ connection, request }: Exchange): Refusal | null {
    if (connection.surplus) return NO_CONNECTION_FREE;
    if (this.#methodOf(request) === undefined) return NO_SUCH_METHOD;
    if (request.method !== 'POST') return NOT_A_POST;
    const expectation = request.headers.expect;
    if (expectation !== undefined && expectation.toLowerCase() !== '100-continue') return NO_SUCH_EXPECTATION;
    return (announcedBytes(request) ?? 0) > this.#limits.body_bytes_max ? this.#oversize : null;
  }

  #methodOf(request: IncomingMessage): RpcMethod | undefined {
    return this.#routes.get(request.url ?? '');
  }

  async #refuse({ connection, request, response, waits_for_continue }: Exchange, refusal: Refusal): Promise<void> {
    if (refusal.result === RetCode.PROPOSE_FAST_REJECT) {
      this.#countOverload(refusal.close === true ? 'connection' : 'request');
    } else if (refusal === this.#oversize) {
      this.#oversized += 1;
      this.#log.warn('oversize', `refused a body of more than ${this.#limits.body_bytes_max} bytes`);
    } else {
      this.#countMalformed(`refused ${request.method} ${request.url}: ${refusal.status}`);
    }
    // Who waits for a "continue" and gets none sends no body.
    const complete = !waits_for_continue && (await discardBody(request, this.#limits.discard_ms));
    connection.beginAnswer(response);
    this.#reply(connection, response, refusal.status, refusal.result, [], refusal.close === true || !complete);
  }

  async #answer(exchange: Exchange, body: Uint8Array): Promise<void> {
    const { connection, request, response } = exchange;
    const { requests_max, requests_per_connection_max } = this.#limits;
    if (this.#requests_in_work >= requests_max || connection.answering >= requests_per_connection_max) {
      return this.#refuse(exchange, OVERLOAD);
    }
    connection.beginAnswer(response);
    this.#requests_in_work += 1;
    try {
      const answer = await this.#run(request, body);
      this.#reply(connection, response, 200, answer.result, answer.body, false);
    } finally {
      this.#requests_in_work -= 1;
    }
  }

  async #run(request: IncomingMessage, body: Uint8Array): Promise<RpcAnswer> {
    const method = this.#methodOf(request);
    assert(method !== undefined, 'a call of an unknown method was refused before');
    try {
      return await method(body);
    } catch (error) {
      if (!(error instanceof PhxError)) throw error;
      if (error.code === 'PROTOBUF_PARSE') {
        this.#countMalformed(`${request.url}: ${error.message}`);
        return { result: TransportResult.BAD_REQUEST, body: [] };
      }
      this.#log.warn('failed', `${request.url} failed: ${error.code} ${error.message}`);
      return { result: RetCode.SYS, body: [] };
    }
  }

  #reply(
    connection: Connection,
    response: ServerResponse,
    status: number,
    result: number,
    body: readonly Uint8Array[],
    close: boolean,
  ): void {
    const headers = [RESULT_HEADER_WRITTEN, String(result)];
    if (close || this.#draining || this.#closing !== null) headers.push('Connection', 'close');
    if (status === 405) headers.push('Allow', 'POST');
    this.#buffered_bytes += connection.reply(response, status, headers, body);
  }

  #onUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
    const connection = this.#connections.get(socket);
    if (connection === undefined) return;
    if (WENT_AWAY.has(error.code ?? '')) {
      connection.endWith('');
      return;
    }
    this.#countMalformed(error.message);
    const { status, result } = UNREADABLE.get(error.code ?? '') ?? UNREADABLE_OTHERWISE;
    const lines = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      `${RESULT_HEADER_WRITTEN}: ${result}`,
      'Content-Length: 0',
      'Connection: close',
    ];
    // A good request may have come in the same piece; by then it is seen to be complete, and its reply goes first.
    setImmediate(() => connection.endWith(`${lines.join('\r\n')}\r\n\r\n`));
  }

  #countOverload(what: 'connection' | 'request'): void {
    this.#overloads += 1;
    this.#log.warn('overload', `overload: refused a ${what}`);
  }

  #countMalformed(what: string): void {
    this.#malformed += 1;
    this.#log.warn('malformed', what);
  }
}

/** The method that each service has: sends back the text that it gets. */
async function echo(body: Uint8Array): Promise<RpcAnswer> {
  const { value } = decode('StringValue', body);
  return { result: RetCode.OK, body: value === '' ? [] : [encode('StringValue', { value })] };
}

function throwOutside(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
