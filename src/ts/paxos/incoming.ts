/** The connections that peers dial: who calls is checked, then frames are taken in. */
import type { Socket } from 'node:net';
import { PhxError } from '../errors.js';
import { decodeMessages, type GroupMessage } from './codec.js';
import { FrameReader } from './frames.js';
import { ALIVE, type Hello, HelloReader, refusalBytes, WELCOME } from './handshake.js';
import { HANDSHAKE_TIMEOUT_MS } from './outgoing.js';

/** Connections that strangers may hold open at once before they have introduced themselves. */
const UNKNOWN_CONNECTIONS_MAX = 64;
/** Answers to probes that may wait in a connection whose other end does not read. */
const ANSWERS_WAITING_BYTES_MAX = 1024;
/** The system asks after this silence whether the other end is still there. */
const KEEP_ALIVE_MS = 30_000;
/** The same refusal is said again only after this time. */
const REFUSAL_REPEAT_MS = 60_000;

export interface IncomingOptions {
  /** Why this caller is turned away, or null to let it in. */
  readonly refusal: (hello: Hello) => string | null;
  readonly receive: (from: number, received: GroupMessage) => void;
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
    const hello = new HelloReader();
    const onData = (chunk: Buffer): void => {
      const found = hello.push(chunk);
      if (found === null) return;
      socket.off('data', onData);
      const refusal = found.hello === null ? found.reason : this.#options.refusal(found.hello);
      if (found.hello === null || refusal !== null) {
        this.#sayRefusal(`refused a replica connection from ${socket.remoteAddress}: ${refusal}`);
        // What else it sends is thrown away until it hangs up or its time is over.
        socket.resume();
        socket.end(refusalBytes(refusal ?? ''));
        return;
      }
      introduce();
      socket.write(WELCOME);
      this.#receiveFrames(socket, found.hello.from, found.rest);
    };
    socket.on('data', onData);
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #receiveFrames(socket: Socket, from: number, rest: Buffer): void {
    const frames = new FrameReader();
    const onData = (chunk: Buffer): void => {
      this.received_bytes += chunk.length;
      let received: GroupMessage[];
      try {
        received = this.#messagesIn(socket, frames, chunk);
      } catch (error) {
        if (!(error instanceof PhxError) || error.code !== 'PROTOBUF_PARSE') throw error;
        this.#options.warn(`replica ${from}: ${error.message}; closing the connection`);
        socket.destroy();
        return;
      }
      // Outside of the try: an error of whoever receives is not the peer's.
      for (const one of received) this.#options.receive(from, one);
    };
    socket.on('data', onData);
    if (rest.length > 0) onData(rest);
  }

  #messagesIn(socket: Socket, frames: FrameReader, chunk: Buffer): GroupMessage[] {
    const received: GroupMessage[] = [];
    for (const payload of frames.push(chunk)) {
      if (payload.length > 0) for (const one of decodeMessages(payload)) received.push(one);
      else if (socket.writableLength < ANSWERS_WAITING_BYTES_MAX) socket.write(ALIVE);
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
