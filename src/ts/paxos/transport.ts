/**
 * Replica connections over TCP. Each replica dials two connections to every peer and sends on them alone: one for values,
 * one for votes and leases, so that lease traffic never queues behind user traffic. Whatever cannot be sent is dropped and
 * counted; the protocol repairs losses.
 */
import { createServer, type Server, Socket } from 'node:net';
import { PhxError } from '../errors.js';
import { decodeMessages, encodeMessage, type GroupMessage } from './codec.js';
import type { Message } from './core/types.js';
import { FrameReader, frameHead } from './frames.js';
import { type Hello, HelloReader, helloBytes, refusalBytes, WELCOME } from './handshake.js';
import type { Identity } from './identity.js';
import type { Replica } from './replicated_log.js';

const LANES = ['control', 'data'] as const;
type Lane = (typeof LANES)[number];

const DIAL_BACKOFF_MIN_MS = 50;
const DIAL_BACKOFF_MAX_MS = 1_000;
const HANDSHAKE_TIMEOUT_MS = 3_000;
/** Bytes that may wait in one connection before messages for it are dropped. */
const SEND_QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** Messages that wait for the end of a turn leave earlier once they have this size, so that frames stay small. */
const FRAME_BYTES_TARGET = 4 * 1024 * 1024;
/** Connections that strangers may hold open at once before they have introduced themselves. */
const UNKNOWN_CONNECTIONS_MAX = 64;

export interface TransportLogger {
  info(message: string): void;
  warn(message: string): void;
}

export interface TransportOptions {
  readonly identity: Identity;
  readonly replicas: readonly Replica[];
  readonly listen_host: string;
  readonly logger: TransportLogger;
  /** Called for each message that arrives. */
  readonly receive: (from: number, received: GroupMessage) => void;
}

export interface TransportStats {
  readonly sent_bytes: number;
  readonly received_bytes: number;
  readonly dropped_messages: number;
  readonly connected_peers: number;
}

export class Transport {
  readonly #options: TransportOptions;
  readonly #server: Server;
  readonly #outgoing: ReadonlyMap<number, Readonly<Record<Lane, Outgoing>>>;
  readonly #incoming = new Set<Socket>();
  #unknown = 0;
  #received_bytes = 0;
  #closed = false;

  private constructor(options: TransportOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (socket) => this.#onConnection(socket));
    const peers = options.replicas.filter((replica) => replica.id !== options.identity.replica);
    this.#outgoing = new Map(
      peers.map((peer) => {
        const lane = (): Outgoing => new Outgoing(peer, options.identity, options.logger);
        return [peer.id, { control: lane(), data: lane() }];
      }),
    );
  }

  /** Listens on the own paxos port, then dials the peers without waiting for them. Throws CONFIG if it cannot listen. */
  static async start(options: TransportOptions): Promise<Transport> {
    const transport = new Transport(options);
    await transport.#listen();
    for (const lanes of transport.#outgoing.values()) for (const lane of LANES) lanes[lane].dial();
    return transport;
  }

  /** Queues a message; it leaves with `flush`. */
  send(to: number, group: number, message: Message): void {
    this.#outgoing.get(to)?.[laneOf(message)].push(encodeMessage(group, message));
  }

  /** Sends what was queued since the last call, one frame for each connection. */
  flush(): void {
    for (const lanes of this.#outgoing.values()) for (const lane of LANES) lanes[lane].flush();
  }

  stats(): TransportStats {
    let sent_bytes = 0;
    let dropped_messages = 0;
    let connected_peers = 0;
    for (const lanes of this.#outgoing.values()) {
      for (const lane of LANES) {
        sent_bytes += lanes[lane].sent_bytes;
        dropped_messages += lanes[lane].dropped_messages;
      }
      if (lanes.control.connected) connected_peers += 1;
    }
    return { sent_bytes, received_bytes: this.#received_bytes, dropped_messages, connected_peers };
  }

  /** Closes all connections and the port. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const lanes of this.#outgoing.values()) for (const lane of LANES) lanes[lane].close();
    for (const socket of this.#incoming) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #listen(): Promise<void> {
    const { identity, replicas, listen_host } = this.#options;
    const self = replicas.find((replica) => replica.id === identity.replica);
    if (self === undefined)
      throw new PhxError('CONFIG', `replica ${identity.replica} is not among the configured ones`);
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error) => {
        const place = `${listen_host}:${self.paxos_port}`;
        reject(new PhxError('CONFIG', `cannot listen on paxos port ${place}: ${error.message}`, { cause: error }));
      });
      this.#server.listen(self.paxos_port, listen_host, () => {
        this.#server.removeAllListeners('error');
        this.#server.on('error', (error) => this.#options.logger.warn(`paxos port: ${error.message}`));
        resolve();
      });
    });
  }

  #onConnection(socket: Socket): void {
    if (this.#closed || this.#unknown >= UNKNOWN_CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    this.#incoming.add(socket);
    this.#unknown += 1;
    let introduced = false;
    const introduce = (): void => {
      if (!introduced) this.#unknown -= 1;
      introduced = true;
    };
    socket.setTimeout(HANDSHAKE_TIMEOUT_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      introduce();
      this.#incoming.delete(socket);
    });
    const hello = new HelloReader();
    const onData = (chunk: Buffer): void => {
      const found = hello.push(chunk);
      if (found === null) return;
      const refusal = found.hello === null ? found.reason : this.#refusal(found.hello);
      if (refusal !== null || found.hello === null) {
        this.#options.logger.warn(`refused a replica connection from ${socket.remoteAddress}: ${refusal}`);
        socket.end(refusalBytes(refusal ?? ''));
        return;
      }
      introduce();
      socket.setTimeout(0);
      socket.off('data', onData);
      socket.write(WELCOME);
      this.#receiveFrames(socket, found.hello.from, found.rest);
    };
    socket.on('data', onData);
  }

  #receiveFrames(socket: Socket, from: number, rest: Buffer): void {
    const frames = new FrameReader();
    const onData = (chunk: Buffer): void => {
      this.#received_bytes += chunk.length;
      try {
        for (const payload of frames.push(chunk)) {
          for (const received of decodeMessages(payload)) this.#options.receive(from, received);
        }
      } catch (error) {
        if (!(error instanceof PhxError) || error.code !== 'PROTOBUF_PARSE') throw error;
        this.#options.logger.warn(`replica ${from}: ${error.message}; closing the connection`);
        socket.destroy();
      }
    };
    socket.on('data', onData);
    if (rest.length > 0) onData(rest);
  }

  #refusal(hello: Hello): string | null {
    const { identity, replicas } = this.#options;
    if (hello.cluster !== identity.cluster) return `this is cluster ${identity.cluster}, not ${hello.cluster}`;
    if (hello.groups !== identity.groups) return `this cluster has ${identity.groups} groups, not ${hello.groups}`;
    if (hello.to !== identity.replica) return `this is replica ${identity.replica}, not ${hello.to}`;
    const known = replicas.some((replica) => replica.id === hello.from && replica.id !== identity.replica);
    return known ? null : `replica ${hello.from} is not a peer`;
  }
}

/** One connection that this replica dials, redials and sends on. */
class Outgoing {
  readonly #peer: Replica;
  readonly #identity: Identity;
  readonly #logger: TransportLogger;
  #socket: Socket | null = null;
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #messages = 0;
  #backoff_ms = DIAL_BACKOFF_MIN_MS;
  #redial: NodeJS.Timeout | null = null;
  #closed = false;
  connected = false;
  sent_bytes = 0;
  dropped_messages = 0;

  constructor(peer: Replica, identity: Identity, logger: TransportLogger) {
    this.#peer = peer;
    this.#identity = identity;
    this.#logger = logger;
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
      if (this.connected) return;
      answer = Buffer.concat([answer, chunk]);
      if (answer[0] !== WELCOME[0]) return;
      socket.setTimeout(0);
      this.connected = true;
      this.#backoff_ms = DIAL_BACKOFF_MIN_MS;
    });
    // What went wrong is in the answer, if the peer gave one; 'close' follows every error and dials again.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.connected = false;
      if (answer.length > 1 && answer[0] !== WELCOME[0]) {
        this.#logger.warn(`replica ${this.#peer.id} refused this one: ${answer.subarray(1).toString('utf8')}`);
      }
      if (!this.#closed) this.#redialLater();
    });
    socket.connect(this.#peer.paxos_port, this.#peer.host);
  }

  push(parts: readonly Uint8Array[]): void {
    const room = this.#socket !== null && this.#socket.writableLength < SEND_QUEUE_BYTES_MAX;
    if (!this.connected || !room) {
      this.dropped_messages += 1;
      return;
    }
    for (const part of parts) {
      this.#parts.push(part);
      this.#bytes += part.length;
    }
    this.#messages += 1;
    if (this.#bytes >= FRAME_BYTES_TARGET) this.flush();
  }

  flush(): void {
    if (this.#messages === 0) return;
    const parts = this.#parts;
    this.#parts = [];
    this.#bytes = 0;
    const messages = this.#messages;
    this.#messages = 0;
    const socket = this.#socket;
    if (!this.connected || socket === null) {
      this.dropped_messages += messages;
      return;
    }
    const head = frameHead(parts);
    socket.cork();
    socket.write(head);
    this.sent_bytes += head.length;
    for (const part of parts) {
      socket.write(part);
      this.sent_bytes += part.length;
    }
    socket.uncork();
  }

  close(): void {
    this.#closed = true;
    if (this.#redial !== null) clearTimeout(this.#redial);
    this.#socket?.destroy();
  }

  #redialLater(): void {
    this.#redial = setTimeout(() => this.dial(), this.#backoff_ms);
    this.#backoff_ms = Math.min(2 * this.#backoff_ms, DIAL_BACKOFF_MAX_MS);
  }
}

function laneOf(message: Message): Lane {
  switch (message.type) {
    case 'accept':
    case 'accepted':
    case 'promise':
    case 'fetch':
    case 'learn':
      return 'data';
    default:
      return 'control';
  }
}
