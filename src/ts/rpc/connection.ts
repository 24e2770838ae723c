import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { assert } from '../errors.js';

/** A client's connection, as the server keeps account of it. */
export class Connection {
  /** Came when the server had all the connections that it takes: gets one refusal. */
  readonly surplus: boolean;
  readonly #socket: Duplex;
  readonly #onReleased: (bytes: number) => void;
  /** Requests that arrived and whose replies have not left yet. */
  #answering = 0;
  /** Bytes of replies that the client has not taken yet. */
  #reply_bytes = 0;
  /** What is to be sent after the replies that are owed, before the connection is closed. */
  #last_bytes: string | null = null;

  /** `onReleased` hears of bytes of replies that need no more room. */
  constructor(socket: Duplex, surplus: boolean, onReleased: (bytes: number) => void) {
    this.surplus = surplus;
    this.#socket = socket;
    this.#onReleased = onReleased;
    socket.once('close', () => this.#release(this.#reply_bytes));
  }

  get answering(): number {
    return this.#answering;
  }

  /** A request is there as a whole, or is refused: it gets a reply. */
  beginAnswer(response: ServerResponse): void {
    this.#answering += 1;
    response.once('finish', () => {
      this.#answering -= 1;
      this.#endIfDone();
    });
  }

  /** Sends a reply and returns the bytes that it holds until the client took them. One that has gone gets none. */
  reply(response: ServerResponse, status: number, headers: string[], body: readonly Uint8Array[]): number {
    if (this.#socket.destroyed) return 0;
    const bytes = body.reduce((sum, part) => sum + part.length, 0);
    this.#reply_bytes += bytes;
    response.once('finish', () => this.#release(bytes));
    response.writeHead(status, [...headers, 'Content-Length', String(bytes)]);
    for (const part of body) response.write(part);
    response.end();
    return bytes;
  }

  /** Ends a connection on which nothing more can be understood: first the replies that are owed, then `last_bytes`. */
  endWith(last_bytes: string): void {
    this.#last_bytes = last_bytes;
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (this.#last_bytes === null || this.#answering > 0) return;
    if (this.#socket.writable) this.#socket.end(this.#last_bytes, () => this.#socket.destroy());
    else this.#socket.destroy();
  }

  #release(bytes: number): void {
    assert(bytes <= this.#reply_bytes || this.#socket.destroyed, 'no more is released than was held');
    const released = Math.min(bytes, this.#reply_bytes);
    this.#reply_bytes -= released;
    this.#onReleased(released);
  }
}
