import type { IncomingMessage } from 'node:http';

/** Bytes of a refused body that are still read (and thrown away) so that the client gets to see the refusal. */
const DISCARD_BYTES_MAX = 64 * 1024 * 1024;
/** How long that may take, in milliseconds. */
const DISCARD_MS = 5_000;

/** What all bodies of a server that are being received hold together. */
export interface BodyBudget {
  held_bytes: number;
  readonly held_bytes_max: number;
}

/** How receiving a body ended: with all of it, or without. */
export type BodyOutcome =
  | { readonly kind: 'complete'; readonly body: Uint8Array }
  | { readonly kind: 'too_large' | 'over_budget' | 'too_slow' | 'gone' };

/** The body of one request while it is received: bounded in size, and together with the others by a budget. */
export class RequestBody {
  readonly began_ms: number;
  readonly #request: IncomingMessage;
  readonly #bytes_max: number;
  readonly #budget: BodyBudget;
  readonly #settle: (outcome: BodyOutcome) => void;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #settled = false;

  /** Begins to receive; `settle` is called once. */
  constructor(
    request: IncomingMessage,
    limits: { readonly bytes_max: number; readonly budget: BodyBudget; readonly now_ms: number },
    settle: (outcome: BodyOutcome) => void,
  ) {
    this.began_ms = limits.now_ms;
    this.#request = request;
    this.#bytes_max = limits.bytes_max;
    this.#budget = limits.budget;
    this.#settle = settle;
    request.on('data', this.#take);
    request.once('end', () => this.#end());
    request.once('close', () => this.#finish({ kind: 'gone' }));
    // An announced length is refused before anything is held.
    if (Number(request.headers['content-length'] ?? 0) > limits.bytes_max) this.#finish({ kind: 'too_large' });
  }

  /** Gives up on a client that sends too slowly. */
  expire(): void {
    this.#finish({ kind: 'too_slow' });
  }

  readonly #take = (chunk: Buffer): void => {
    this.#bytes += chunk.length;
    this.#chunks.push(chunk);
    this.#budget.held_bytes += chunk.length;
    if (this.#bytes > this.#bytes_max) this.#finish({ kind: 'too_large' });
    else if (this.#budget.held_bytes > this.#budget.held_bytes_max) this.#finish({ kind: 'over_budget' });
  };

  #end(): void {
    const [first] = this.#chunks;
    const body = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
    this.#finish({ kind: 'complete', body });
  }

  #finish(outcome: BodyOutcome): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#request.off('data', this.#take);
    for (const chunk of this.#chunks) this.#budget.held_bytes -= chunk.length;
    this.#chunks = [];
    this.#settle(outcome);
  }
}

/**
 * Reads on and throws away what is still to come of a request that was answered already, and calls `done` at its end: a
 * connection that is closed while bytes arrive takes the answer with it. Bounded in bytes and time.
 */
export function discardRest(request: IncomingMessage, done: () => void): void {
  let bytes = 0;
  const timer = setTimeout(() => request.destroy(), DISCARD_MS);
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > DISCARD_BYTES_MAX) request.destroy();
  });
  request.once('end', done);
  request.once('close', () => clearTimeout(timer));
}
