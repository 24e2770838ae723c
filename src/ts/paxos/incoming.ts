/** The connections that peers dial: who calls is checked and remembered, then it is let in and its frames are taken in. */
import type { Socket } from 'node:net';
import { PhxError } from '../errors.js';
import { decodeMessages, type GroupMessage } from './codec.js';
import { FrameReader } from './frames.js';
import { ALIVE, type Hello, HelloReader, refusalBytes, statusIn, welcomeBytes } from './handshake.js';
import { HANDSHAKE_TIMEOUT_MS } from './outgoing.js';
import type { Birth, Report } from './report.js';

/** Connections that may be open at once whose callers have not been let in: strangers, and those that wait for an answer. */
const UNKNOWN_CONNECTIONS_MAX = 64;
/** Answers to statuses that may wait in a connection whose other end does not read. */
const ANSWERS_WAITING_BYTES_MAX = 1024;
/** The system asks after this silence whether the other end is still there. */
const KEEP_ALIVE_MS = 30_000;
/** The same refusal is said again only after this time. */
const REFUSAL_REPEAT_MS = 60_000;

/** Who let itself in: the place that it has, and the birth as which it introduced itself on this connection. */
export interface Caller {
  readonly place: number;
  readonly birth: Birth;
}

/** What becomes of a caller; `report` is what this side says of itself. */
export type Admission =
  | { readonly type: 'welcome'; readonly report: Report }
  | { readonly type: 'old'; readonly reason: string }
  | { readonly type: 'refuse'; readonly reason: string };

export interface IncomingOptions {
  readonly replicas: number;
  /** Why this caller is a stranger, or null. */
  readonly refusal: (hello: Hello) => string | null;
  /** Calls `answer` once, now or later: whoever is let in is remembered on the disk by then. */
  readonly admit: (hello: Hello, answer: (admission: Admission) => void) => void;
  /** A caller that was let in says what it is now. Returns why it is to be cut off, or null. */
  readonly status: (from: number, report: Report) => string | null;
  readonly receive: (from: Caller, received: GroupMessage) => void;
  readonly warn: (message: string) => void;
}

export class Incoming {
  readonly #options: IncomingOptions;
  readonly #sockets = new Set<Socket>();
  #unknown = 0;
  #refusal = { text: '', said_at_ms: Number.NEGATIVE_INFINITY };
  received_bytes = 0;

  constructor(options: IncomingOptions) {
    this.#options = options;
  }

  accept(socket: Socket): void {
    if (this.#unknown >= UNKNOWN_CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    this.#unknown += 1;
    // From the beginning, however busy the caller is.
    const deadline = setTimeout(() => socket.destroy(), HANDSHAKE_TIMEOUT_MS);
    let known = false;
    const introduce = (): void => {
      if (!known) this.#unknown -= 1;
      known = true;
      clearTimeout(deadline);
    };
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      introduce();
      this.#sockets.delete(socket);
    });
    const reader = new HelloReader();
    const onData = (chunk: Buffer): void => {
      const found = reader.push(chunk);
      if (found === null) return;
      socket.off('data', onData);
      const { hello, rest } = found;
      const refusal = hello === null ? found.reason : this.#options.refusal(hello);
      if (hello === null || refusal !== null) {
        this.#refuse(socket, refusal ?? '', false);
        return;
      }
      // What comes next stays in the socket until there is an answer.
      socket.pause();
      this.#options.admit(hello, (admission) => {
        if (socket.destroyed) return;
        if (admission.type === 'welcome') {
          introduce();
          socket.write(welcomeBytes(admission.report));
          this.#receiveFrames(socket, { place: hello.from, birth: hello.report.birth }, rest);
          socket.resume();
        } else {
          this.#refuse(socket, admission.reason, admission.type === 'old');
        }
      });
    };
    socket.on('data', onData);
  }

  /** Hangs up on all callers, those that are not let in yet among them. */
  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #refuse(socket: Socket, reason: string, old_folder: boolean): void {
    this.#sayRefusal(`refused a replica connection from ${socket.remoteAddress}: ${reason}`);
    // What else it sends is thrown away until it hangs up or its time is over.
    socket.resume();
    socket.end(refusalBytes(reason, old_folder));
  }

  #receiveFrames(socket: Socket, from: Caller, rest: Buffer): void {
    const frames = new FrameReader();
    const onData = (chunk: Buffer): void => {
      this.received_bytes += chunk.length;
      let received: GroupMessage[];
      try {
        received = this.#messagesIn(socket, from.place, frames, chunk);
      } catch (error) {
        if (!(error instanceof PhxError) || error.code !== 'PROTOBUF_PARSE') throw error;
        this.#options.warn(`replica ${from.place}: ${error.message}; closing the connection`);
        socket.destroy();
        return;
      }
      // Outside of the try: an error of whoever receives is not the peer's.
      for (const one of received) this.#options.receive(from, one);
    };
    socket.on('data', onData);
    if (rest.length > 0) onData(rest);
  }

  #messagesIn(socket: Socket, from: number, frames: FrameReader, chunk: Buffer): GroupMessage[] {
    const received: GroupMessage[] = [];
    for (const payload of frames.push(chunk)) {
      const report = statusIn(payload, this.#options.replicas);
      if (report === null) {
        for (const one of decodeMessages(payload)) received.push(one);
        continue;
      }
      const refusal = this.#options.status(from, report);
      if (refusal !== null) throw new PhxError('PROTOBUF_PARSE', refusal);
      if (socket.writableLength < ANSWERS_WAITING_BYTES_MAX) socket.write(ALIVE);
    }
    return received;
  }

  #sayRefusal(text: string): void {
    const now_ms = performance.now();
    const { text: last, said_at_ms } = this.#refusal;
    if (text === last && now_ms - said_at_ms < REFUSAL_REPEAT_MS) return;
    this.#refusal = { text, said_at_ms: now_ms };
    this.#options.warn(text);
  }
}
