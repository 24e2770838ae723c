/** One connection that this replica dials, redials and sends on. */
import { Socket } from 'node:net';
import { PhxError } from '../errors.js';
import { FRAME_BYTES_MAX, frameHead } from './frames.js';
import { type Answer, AnswerReader, helloBytes, statusParts } from './handshake.js';
import type { Identity } from './identity.js';
import type { Replica } from './replicated_log.js';
import type { Report } from './report.js';

const DIAL_BACKOFF_MIN_MS = 50;
const DIAL_BACKOFF_MAX_MS = 1_000;
export const HANDSHAKE_TIMEOUT_MS = 3_000;
/** Bytes that may wait in one connection before messages for it are dropped; a lone message may be larger. */
export const SEND_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** Messages that wait for the end of a turn leave earlier once they have this size, so that frames stay small. */
const FRAME_BYTES_TARGET = 4 * 1024 * 1024;

export interface OutgoingOptions {
  readonly identity: Identity;
  readonly replicas: number;
  /** What this replica says of itself now. */
  readonly report: () => Report;
  /**
   * Connected and let in under the introduction `told`; `report` is what the peer says of itself. False: the connection is
   * given up.
   */
  readonly onWelcome: (report: Report, told: Report) => boolean;
  /** The peer turned this replica away, which had introduced itself as `told`; said once for each reason. */
  readonly onRefused: (answer: Answer & { type: 'refused' }, told: Report) => void;
  /** The peer answered a status. */
  readonly onAlive: () => void;
  /** The connection on which this replica was let in is lost. */
  readonly onLost: () => void;
}

export class Outgoing {
  readonly #peer: Replica;
  readonly #options: OutgoingOptions;
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

  constructor(peer: Replica, options: OutgoingOptions) {
    this.#peer = peer;
    this.#options = options;
  }

  dial(): void {
    const { identity, replicas } = this.#options;
    const socket = new Socket();
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setTimeout(HANDSHAKE_TIMEOUT_MS, () => socket.destroy());
    const answer = new AnswerReader(replicas);
    let told: Report | null = null;
    socket.on('connect', () => {
      const { cluster, replica, groups } = identity;
      told = this.#options.report();
      socket.write(helloBytes({ cluster, from: replica, to: this.#peer.id, groups, replicas, report: told }));
    });
    socket.on('data', (chunk: Buffer) => {
      if (this.connected) this.#options.onAlive();
      else if (told !== null) this.#onAnswer(socket, answer, told, chunk);
    });
    // What went wrong is in the answer, if the peer gave one; 'close' follows every error and dials again.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      const lost = this.connected;
      this.connected = false;
      this.#dropParts();
      const refusal = answer.refusal();
      if (refusal !== null && told !== null) this.#onRefused(refusal, told);
      if (lost) this.#options.onLost();
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

  /** Says what this replica is now; the peer answers. */
  tell(report: Report): void {
    this.flush();
    if (this.connected) this.#sendFrame(statusParts(report));
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
    if (!this.connected) {
      this.#dropParts();
      return;
    }
    const parts = this.#parts;
    this.#clear();
    this.#sendFrame(parts);
  }

  #sendFrame(parts: readonly Uint8Array[]): void {
    const socket = this.#socket;
    if (socket === null) return;
    const head = frameHead(parts);
    this.sent_bytes += parts.reduce((sum, part) => sum + part.length, head.length);
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

  #onAnswer(socket: Socket, answer: AnswerReader, told: Report, chunk: Buffer): void {
    let welcome: Answer | null;
    try {
      welcome = answer.push(chunk);
    } catch (error) {
      if (!(error instanceof PhxError) || error.code !== 'PROTOBUF_PARSE') throw error;
      socket.destroy();
      return;
    }
    if (welcome?.type !== 'welcome') return;
    socket.setTimeout(0);
    this.connected = true;
    if (this.#options.onWelcome(welcome.report, told)) {
      this.#backoff_ms = DIAL_BACKOFF_MIN_MS;
      this.#refused = '';
    } else {
      socket.destroy();
    }
  }

  #onRefused(answer: Answer & { type: 'refused' }, told: Report): void {
    // Of an old folder each birth has to hear.
    const key = answer.old_folder ? `${told.birth} ${answer.reason}` : answer.reason;
    if (key === this.#refused) return;
    this.#refused = key;
    this.#options.onRefused(answer, told);
  }

  #redialLater(): void {
    this.#redial = setTimeout(() => this.dial(), this.#backoff_ms);
    this.#backoff_ms = Math.min(2 * this.#backoff_ms, DIAL_BACKOFF_MAX_MS);
  }
}
