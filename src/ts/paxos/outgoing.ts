/** One connection that this replica dials, redials and sends on. */
import { Socket } from 'node:net';
import { FRAME_BYTES_MAX, frameHead } from './frames.js';
import { ANSWER_BYTES_MAX, helloBytes, WELCOME } from './handshake.js';
import type { Identity } from './identity.js';
import type { Replica } from './replicated_log.js';

const DIAL_BACKOFF_MIN_MS = 50;
const DIAL_BACKOFF_MAX_MS = 1_000;
export const HANDSHAKE_TIMEOUT_MS = 3_000;
/** Bytes that may wait in one connection before messages for it are dropped; a lone message may be larger. */
export const SEND_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** Messages that wait for the end of a turn leave earlier once they have this size, so that frames stay small. */
const FRAME_BYTES_TARGET = 4 * 1024 * 1024;

export interface OutgoingEvents {
  /** Connected and let in. */
  readonly onWelcome: () => void;
  /** The peer turned this replica away; said once for each reason. */
  readonly onRefused: (reason: string) => void;
  /** The peer answered a probe. */
  readonly onAlive: () => void;
}

export class Outgoing {
  readonly #peer: Replica;
  readonly #identity: Identity;
  readonly #events: OutgoingEvents;
  #socket: Socket | null = null;
  #parts: Uint8Array[] = [];
  #parts_bytes = 0;
  #messages = 0;
  #backoff_ms = DIAL_BACKOFF_MIN_MS;
  #redial: NodeJS.Timeout | null = null;
  #refused = '';
  #closed = false;
  connected = false;
  sent_bytes = 0;
  dropped_messages = 0;

  constructor(peer: Replica, identity: Identity, events: OutgoingEvents) {
    this.#peer = peer;
    this.#identity = identity;
    this.#events = events;
  }

  dial(): void {
    const { cluster, replica, groups } = this.#identity;
    const socket = new Socket();
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setTimeout(HANDSHAKE_TIMEOUT_MS, () => socket.destroy());
    let answer = Buffer.alloc(0);
    socket.on('connect', () => socket.write(helloBytes({ cluster, from: replica, to: this.#peer.id, groups })));
    socket.on('data', (chunk: Buffer) => {
      if (this.connected) {
        this.#events.onAlive();
        return;
      }
      answer = Buffer.concat([answer, chunk]);
      if (answer[0] !== WELCOME[0]) {
        if (answer.length > ANSWER_BYTES_MAX) socket.destroy();
        return;
      }
      socket.setTimeout(0);
      this.connected = true;
      this.#backoff_ms = DIAL_BACKOFF_MIN_MS;
      this.#refused = '';
      this.#events.onWelcome();
    });
    // What went wrong is in the answer, if the peer gave one; 'close' follows every error and dials again.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.connected = false;
      this.#dropParts();
      if (answer.length > 1 && answer[0] !== WELCOME[0]) this.#onRefused(answer.subarray(1).toString('utf8'));
      if (!this.#closed) this.#redialLater();
    });
    socket.connect(this.#peer.paxos_port, this.#peer.host);
  }

  /** Queues a message for `flush`; drops it if there is no connection or too much waits in it. */
  push(parts: readonly Uint8Array[]): void {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const queued = this.#parts_bytes + (this.#socket?.writableLength ?? 0);
    const full = (queued > 0 && queued + bytes > SEND_QUEUE_BYTES_MAX) || bytes > FRAME_BYTES_MAX;
    if (!this.connected || full) {
      this.dropped_messages += 1;
      return;
    }
    this.#parts.push(...parts);
    this.#parts_bytes += bytes;
    this.#messages += 1;
    if (this.#parts_bytes >= FRAME_BYTES_TARGET) this.flush();
  }

  /** Sends what was queued as one frame. */
  flush(): void {
    if (this.#messages > 0) this.#send();
  }

  /** Sends an empty frame, which the peer answers. */
  probe(): void {
    if (this.connected) this.#send();
  }

  /** Gives up the connection; the next one is dialled. */
  reset(): void {
    this.#socket?.destroy();
  }

  close(): void {
    this.#closed = true;
    if (this.#redial !== null) clearTimeout(this.#redial);
    this.#socket?.destroy();
  }

  #send(): void {
    const socket = this.#socket;
    if (socket === null || !this.connected) {
      this.#dropParts();
      return;
    }
    const parts = this.#parts;
    const head = frameHead(parts);
    this.sent_bytes += head.length + this.#parts_bytes;
    this.#clear();
    socket.cork();
    socket.write(head);
    for (const part of parts) socket.write(part);
    socket.uncork();
  }

  #dropParts(): void {
    this.dropped_messages += this.#messages;
    this.#clear();
  }

  #clear(): void {
    this.#parts = [];
    this.#parts_bytes = 0;
    this.#messages = 0;
  }

  #onRefused(reason: string): void {
    if (reason === this.#refused) return;
    this.#refused = reason;
    this.#events.onRefused(reason);
  }

  #redialLater(): void {
    this.#redial = setTimeout(() => this.dial(), this.#backoff_ms);
    this.#backoff_ms = Math.min(2 * this.#backoff_ms, DIAL_BACKOFF_MAX_MS);
  }
}
