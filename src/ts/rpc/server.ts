/**
 * Protobuf over HTTP, the server's side (docs/wire-format.md). A reply is always `200`, with the method's return code in
 * X-PHXRPC-Result and a Content-Length; so is a refusal, except for an unknown method, which is `404`.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { assert, PhxError } from '../errors.js';
import { decode } from '../protocol/messages.js';
import { RetCode, TransportResult } from '../protocol/ret_code.js';
import { type BodyBudget, type BodyOutcome, discardRest, RequestBody } from './request_body.js';

/** First part of all URIs; then come the service and the method. */
export const URI_PREFIX = '/phxqueue_phxrpc';
export const RESULT_HEADER = 'X-PHXRPC-Result';

const HEADER_BYTES_MAX = 8 * 1024;
const SWEEP_MS = 1_000;

/** What a method answers: return code, and the body in parts. */
export interface RpcReply {
  readonly result: number;
  readonly body: readonly Uint8Array[];
}

/** A method. A PhxError PROTOBUF_PARSE means that the body is not what it should be. */
export type RpcMethod = (body: Uint8Array) => RpcReply | Promise<RpcReply>;

export interface RpcLimits {
  /** Bytes of one request's body. */
  readonly body_bytes_max: number;
  /** Bytes of all bodies that are being received at a time. */
  readonly held_bytes_max: number;
  /** Requests that are being answered at a time; more are refused as overload. */
  readonly in_flight_max: number;
  readonly connections_max: number;
  /** A connection without a request is closed after this time. */
  readonly idle_timeout_ms: number;
  /** A body that is not complete after this time is refused. */
  readonly body_timeout_ms: number;
}

export const DEFAULT_RPC_LIMITS: RpcLimits = {
  body_bytes_max: 16 * 1024 * 1024,
  held_bytes_max: 256 * 1024 * 1024,
  in_flight_max: 20_480,
  connections_max: 800_000,
  idle_timeout_ms: 30_000,
  body_timeout_ms: 30_000,
};

export interface RpcLogger {
  warn(line: string): void;
}

export interface RpcServerOptions {
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
  /** Second part of the URIs: store, lock, scheduler. */
  readonly service: string;
  readonly methods: Readonly<Record<string, RpcMethod>>;
  readonly limits?: Partial<RpcLimits>;
  /** Return code for a body that is too large. Default SIZE_TOO_LARGE. */
  readonly oversize_result?: number;
  readonly logger: RpcLogger;
  /** An error of a method that is not an operating error: a broken invariant. Must stop the process. */
  readonly onDefect: (error: unknown) => void;
}

/** Counters since the start, and what is going on now. */
export interface RpcServerStats {
  readonly requests: number;
  readonly refused: number;
  readonly in_flight: number;
  readonly connections: number;
  readonly held_bytes: number;
}

/** See the head of this file. PHXEcho is built in. */
export class RpcServer {
  readonly #options: RpcServerOptions;
  readonly #limits: RpcLimits;
  readonly #http: Server;
  readonly #methods: ReadonlyMap<string, RpcMethod>;
  readonly #receiving = new Set<RequestBody>();
  readonly #sockets = new Set<Socket>();
  readonly #budget: BodyBudget;
  readonly #sweep: NodeJS.Timeout;
  #requests = 0;
  #refused = 0;
  #in_flight = 0;
  #closing = false;

  private constructor(options: RpcServerOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_RPC_LIMITS, ...options.limits };
    this.#budget = { held_bytes: 0, held_bytes_max: this.#limits.held_bytes_max };
    const methods = { ...options.methods, PHXEcho: echo };
    this.#methods = new Map(
      Object.entries(methods).map(([name, method]) => [`${URI_PREFIX}/${options.service}/${name}`, method]),
    );
    this.#http = createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        // Clients of this protocol send none.
        requireHostHeader: false,
        keepAliveTimeout: this.#limits.idle_timeout_ms,
        // Counts from the moment of the connection, too, so it must not be shorter than an idle connection may live.
        headersTimeout: this.#limits.idle_timeout_ms,
        // Bodies have a time limit of their own, whose refusal says what it is.
        requestTimeout: 0,
      },
      (request, response) => this.#receive(request, response),
    );
    this.#http.maxRequestsPerSocket = 0;
    this.#http.maxConnections = this.#limits.connections_max;
    this.#http.on('clientError', refuseMalformed);
    this.#http.on('drop', () =>
      options.logger.warn(`more than ${this.#limits.connections_max} connections; one refused`),
    );
    this.#http.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#sweep = setInterval(() => this.#expireSlow(), SWEEP_MS).unref();
  }

  /** Starts to listen. Throws PhxError CONFIG if the address cannot be taken. */
  static async listen(options: RpcServerOptions): Promise<RpcServer> {
    const server = new RpcServer(options);
    server.#http.listen(options.port, options.host);
    try {
      await once(server.#http, 'listening');
    } catch (cause) {
      clearInterval(server.#sweep);
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new PhxError('CONFIG', `cannot listen on ${options.host}:${options.port}: ${reason}`, { cause });
    }
    return server;
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#http.address();
    assert(typeof address === 'object' && address !== null, 'the server listens');
    return address.port;
  }

  stats(): RpcServerStats {
    return {
      requests: this.#requests,
      refused: this.#refused,
      in_flight: this.#in_flight,
      connections: this.#sockets.size,
      held_bytes: this.#budget.held_bytes,
    };
  }

  /** Accepts no more, finishes what is being answered within `grace_ms`, then closes all connections. */
  async close(grace_ms: number): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()));
    this.#http.closeIdleConnections();
    const timer = setTimeout(() => this.#http.closeAllConnections(), grace_ms);
    await closed;
    clearTimeout(timer);
    clearInterval(this.#sweep);
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    this.#requests += 1;
    this.#in_flight += 1;
    response.sendDate = false;
    response.once('close', () => {
      this.#in_flight -= 1;
    });
    const method = this.#methods.get(request.url ?? '');
    if (method === undefined) {
      this.#refuse(request, response, RetCode.SYS, 404);
    } else if (request.method !== 'POST') {
      this.#refuse(request, response, RetCode.SYS, 405);
    } else if (this.#in_flight > this.#limits.in_flight_max) {
      this.#refuse(request, response, RetCode.PROPOSE_FAST_REJECT);
    } else {
      this.#receiveBody(method, request, response);
    }
  }

  #receiveBody(method: RpcMethod, request: IncomingMessage, response: ServerResponse): void {
    const limits = { bytes_max: this.#limits.body_bytes_max, budget: this.#budget, now_ms: performance.now() };
    const settle = (outcome: BodyOutcome): void => {
      this.#receiving.delete(body);
      switch (outcome.kind) {
        case 'complete':
          this.#answer(method, outcome.body, response);
          break;
        case 'too_large':
          this.#refuse(request, response, this.#options.oversize_result ?? RetCode.SIZE_TOO_LARGE);
          break;
        case 'over_budget':
          this.#refuse(request, response, RetCode.PROPOSE_FAST_REJECT);
          break;
        case 'too_slow':
          this.#refuse(request, response, TransportResult.SOCKET_TIMEOUT);
          break;
        case 'gone':
          break;
      }
    };
    const body: RequestBody = new RequestBody(request, limits, (outcome) => queueMicrotask(() => settle(outcome)));
    this.#receiving.add(body);
  }

  #answer(method: RpcMethod, body: Uint8Array, response: ServerResponse): void {
    let reply: RpcReply | Promise<RpcReply>;
    try {
      reply = method(body);
    } catch (error) {
      this.#fail(error, response);
      return;
    }
    if (reply instanceof Promise) {
      reply.then(
        (answer) => this.#reply(answer, response),
        (error: unknown) => this.#fail(error, response),
      );
    } else {
      this.#reply(reply, response);
    }
  }

  #fail(error: unknown, response: ServerResponse): void {
    if (!(error instanceof PhxError)) {
      this.#options.onDefect(error);
      this.#reply({ result: RetCode.SYS, body: [] }, response);
      return;
    }
    const malformed = error.code === 'PROTOBUF_PARSE';
    if (!malformed) this.#options.logger.warn(`ERR: a request failed: ${error.code}: ${error.message}`);
    this.#reply({ result: malformed ? TransportResult.BAD_REQUEST : RetCode.SYS, body: [] }, response);
  }

  #reply({ result, body }: RpcReply, response: ServerResponse): void {
    let length = 0;
    for (const part of body) length += part.length;
    response.writeHead(200, this.#headers(result, length, this.#closing));
    for (const part of body) response.write(part);
    response.end();
  }

  /** Answers at once, whatever is still to come of the request. */
  #refuse(request: IncomingMessage, response: ServerResponse, result: number, status = 200): void {
    this.#refused += 1;
    response.writeHead(status, this.#headers(result, 0, !request.complete));
    if (request.complete) {
      response.end();
      return;
    }
    response.flushHeaders();
    discardRest(request, () => response.end());
  }

  #headers(result: number, length: number, last: boolean): Record<string, string | number> {
    const headers: Record<string, string | number> = { [RESULT_HEADER]: result, 'Content-Length': length };
    if (last) headers['Connection'] = 'close';
    return headers;
  }

  #expireSlow(): void {
    const before_ms = performance.now() - this.#limits.body_timeout_ms;
    for (const body of this.#receiving) {
      if (body.began_ms > before_ms) break;
      body.expire();
    }
  }
}

/** What HTTP itself cannot make sense of: answered as a malformed request, and the connection ends. */
function refuseMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request';
  socket.end(
    `HTTP/1.1 ${status}\r\n${RESULT_HEADER}: ${TransportResult.BAD_REQUEST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
  );
}

function echo(body: Uint8Array): RpcReply {
  decode('StringValue', body);
  return { result: RetCode.OK, body: [body] };
}
