import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import { type ErrorCode, PhxError } from '../errors.js';
import { TransportResult } from '../protocol/ret_code.js';
import { ByteCollector } from './byte_collector.js';
import { RESULT_HEADER } from './envelope.js';

/** What a server answered. */
export interface RpcReply {
  readonly result: number;
  readonly body: Uint8Array;
}

export interface RpcCallSettings {
  /** For error messages. */
  readonly name: string;
  readonly timeout_ms: number;
  readonly reply_bytes_max: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (reply: RpcReply) => void;
  readonly reject: (error: PhxError) => void;
  /** Called once, when the connection pool has nothing more to do with the call. */
  readonly onReleased: () => void;
}

/**
 * One call on its way through undici. undici says when it starts to write a request; what fails before that was
 * certainly not sent.
 */
export class RpcCall implements Dispatcher.DispatchHandler {
  readonly #settings: RpcCallSettings;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort: () => void;
  #controller: Dispatcher.DispatchController | null = null;
  #settled = false;
  #result: number = TransportResult.BROKEN;
  #announced_bytes: number | null = null;
  readonly #body = new ByteCollector();

  constructor(settings: RpcCallSettings) {
    this.#settings = settings;
    this.#onAbort = () => this.#fail('ABORTED', 'was aborted');
    this.#timer = setTimeout(() => this.#onTimeout(), settings.timeout_ms);
    settings.signal?.addEventListener('abort', this.#onAbort);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It gave up while it waited for a connection: nothing is sent.
    if (this.#settled) controller.abort(new Error('given up'));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200 || this.#settled) return;
    this.#result = resultOf(headers);
    const length = headers['content-length'];
    if (length !== undefined) {
      this.#announced_bytes = Number(length);
    } else if (headers['transfer-encoding'] === undefined && headers.connection?.toLowerCase() !== 'close') {
      // The original leaves the length out when there is no body, and keeps the connection: its end would never come.
      this.#succeed();
      controller.abort(new Error('the end of the reply is not to be seen'));
    }
    if ((this.#announced_bytes ?? 0) > this.#settings.reply_bytes_max) this.#failOversized();
  }

  onResponseData(_controller: Dispatcher.DispatchController, piece: Buffer): void {
    if (this.#settled) return;
    if (this.#body.length + piece.length > this.#settings.reply_bytes_max) this.#failOversized();
    else this.#body.add(piece, this.#announced_bytes);
  }

  onResponseEnd(): void {
    this.#succeed();
    this.#settings.onReleased();
  }

  onResponseError(_controller: Dispatcher.DispatchController, cause: Error): void {
    if (this.#controller === null) this.#fail('RPC_CONNECT', `could not be sent: ${cause.message}`, cause);
    else this.#fail('RPC_IO', `broke off: ${cause.message}`, cause);
    this.#settings.onReleased();
  }

  #onTimeout(): void {
    const { timeout_ms } = this.#settings;
    if (this.#controller === null) this.#fail('RPC_CONNECT', `could not be sent within ${timeout_ms} ms`);
    else this.#fail('RPC_TIMEOUT', `got no answer within ${timeout_ms} ms`);
  }

  #failOversized(): void {
    this.#fail('RPC_IO', `got an answer of more than ${this.#settings.reply_bytes_max} bytes`);
  }

  #succeed(): void {
    if (this.#settle()) this.#settings.resolve({ result: this.#result, body: this.#body.take() });
  }

  #fail(code: ErrorCode, what: string, cause?: Error): void {
    if (!this.#settle()) return;
    const retryable = code !== 'ABORTED';
    this.#settings.reject(new PhxError(code, `${this.#settings.name} ${what}`, { retryable, cause }));
    // The reply may still come: the connection is of no more use.
    this.#controller?.abort(new Error('given up'));
  }

  #settle(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    clearTimeout(this.#timer);
    this.#settings.signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }
}

function resultOf(headers: IncomingHttpHeaders): number {
  const value = headers[RESULT_HEADER];
  return typeof value === 'string' && /^-?\d{1,10}$/.test(value) ? Number(value) : TransportResult.BROKEN;
}
