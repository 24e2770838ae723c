/** The admin port: health for supervisors and load balancers, metrics for Prometheus. Loopback unless configured. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import { assert, PhxError } from '../errors.js';

const HEADER_BYTES_MAX = 8 * 1024;
const CONNECTIONS_MAX = 64;
const REQUEST_MS_MAX = 10_000;
const PAGES = '/healthz, /readyz, /metrics';

/** Whether something holds, and if not, why. */
export interface Condition {
  readonly ok: boolean;
  readonly reason: string;
}

export interface AdminOptions {
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
  readonly registry: Registry;
  /** Whether the process should be left alone; if not, it should be restarted. */
  readonly health: () => Condition;
  /** Whether the process does its work now. */
  readonly ready: () => Condition;
}

interface Page {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** See the head of this file. */
export class AdminServer {
  readonly #http: Server;
  readonly #options: AdminOptions;

  private constructor(options: AdminOptions) {
    this.#options = options;
    const limits = { maxHeaderSize: HEADER_BYTES_MAX, requestTimeout: REQUEST_MS_MAX, headersTimeout: REQUEST_MS_MAX };
    this.#http = createServer(limits, (request, response) => this.#serve(request, response));
    this.#http.maxConnections = CONNECTIONS_MAX;
  }

  /** Starts to listen. Throws PhxError CONFIG if the address cannot be taken. */
  static async listen(options: AdminOptions): Promise<AdminServer> {
    const server = new AdminServer(options);
    server.#http.listen(options.port, options.host);
    try {
      await once(server.#http, 'listening');
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new PhxError('CONFIG', `the admin port cannot listen on ${options.host}:${options.port}: ${reason}`, {
        cause,
      });
    }
    return server;
  }

  get port(): number {
    const address = this.#http.address();
    assert(typeof address === 'object' && address !== null, 'the admin server listens');
    return address.port;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()));
    this.#http.closeAllConnections();
    await closed;
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    // Pages are asked for without a body; one that comes nevertheless is thrown away.
    request.resume();
    this.#page(request).then(
      (page) => send(response, page),
      (error: unknown) => send(response, text(500, `the page failed: ${String(error)}`)),
    );
  }

  async #page({ method, url = '' }: IncomingMessage): Promise<Page> {
    const [path] = url.split('?');
    const isKnown = path === '/healthz' || path === '/readyz' || path === '/metrics';
    if (!isKnown) return text(404, `no such page; there are ${PAGES}`);
    if (method !== 'GET' && method !== 'HEAD') return text(405, 'only GET is answered here');
    if (path === '/healthz') return condition(this.#options.health());
    if (path === '/readyz') return condition(this.#options.ready());
    const { registry } = this.#options;
    return { status: 200, type: registry.contentType, text: await registry.metrics() };
  }
}

function condition({ ok, reason }: Condition): Page {
  return ok ? text(200, 'ok') : text(503, reason);
}

function text(status: number, line: string): Page {
  return { status, type: 'text/plain; charset=utf-8', text: `${line}\n` };
}

function send(response: ServerResponse, page: Page): void {
  const body = Buffer.from(page.text);
  response.writeHead(page.status, { 'Content-Type': page.type, 'Content-Length': body.length });
  response.end(body);
}
