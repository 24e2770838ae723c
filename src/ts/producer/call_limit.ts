import { RetCode, TransportResult } from '../protocol/ret_code.js';
import { EnqueueError } from './enqueue_error.js';

/** How far a call may go: until its caller aborts it or its time is over. Both are one signal here. */
export class CallLimit {
  readonly #controller = new AbortController();
  readonly #timeout_ms: number;
  readonly #caller: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = (): void => this.#controller.abort();
  #expired = false;

  constructor(timeout_ms: number, caller?: AbortSignal) {
    this.#timeout_ms = timeout_ms;
    this.#caller = caller;
    this.#timer = setTimeout(() => {
      this.#expired = true;
      this.#controller.abort();
    }, timeout_ms);
    if (caller?.aborted === true) this.#controller.abort();
    else caller?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Fires when the call has to end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The error of a call that this limit ended. */
  error(outcome_unknown: boolean): EnqueueError {
    if (this.#expired) {
      const message = `not enqueued within ${this.#timeout_ms} ms`;
      return new EnqueueError(TransportResult.SOCKET_TIMEOUT, message, { code: 'RPC_TIMEOUT', outcome_unknown });
    }
    const cause: unknown = this.#caller?.reason;
    return new EnqueueError(RetCode.SYS, 'aborted by the caller', { code: 'ABORTED', outcome_unknown, cause });
  }

  /** Leaves nothing behind on the caller's signal. To be called when the call has ended. */
  release(): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener('abort', this.#onAbort);
  }
}
