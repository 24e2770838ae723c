/**
 * Replica connections over TCP. Each replica dials two connections to every peer and sends on them alone: one for values,
 * one for votes and leases, so that lease traffic never queues behind user traffic. Whatever cannot be sent is dropped and
 * counted; the protocol repairs losses.
 */
import { createServer, type Server } from 'node:net';
import { PhxError } from '../errors.js';
import { encodeMessage, type GroupMessage, type PeerMessage } from './codec.js';
import type { Hello } from './handshake.js';
import type { Identity } from './identity.js';
import { type Admission, type Caller, Incoming } from './incoming.js';
import { Outgoing } from './outgoing.js';
import type { Replica } from './replicated_log.js';
import type { Report } from './report.js';

/**
 * Each peer is told at this interval what this replica is, and answers: a network that swallows packets breaks no
 * connection by itself.
 */
const STATUS_MS = 1_000;
/** Statuses without an answer after which both connections to a peer are dialled anew. */
const STATUSES_UNANSWERED_MAX = 3;

export interface TransportLogger {
  info(message: string): void;
  warn(message: string): void;
}

/** Who this replica is, and what it makes of who the others are. Places are ids of configured replicas. */
export interface Introductions {
  /** What this replica says of itself now. */
  report(): Report;
  /** A peer introduces itself; `answer` is called once, now or later. */
  admit(place: number, report: Report, answer: (admission: Admission) => void): void;
  /** A peer let this replica in as `told`, and says who it is. Returns why not to talk to it, or null. */
  welcomed(place: number, report: Report, told: Report): string | null;
  /** A peer says that the folder which introduced itself as `told` is an older copy. */
  foundOld(place: number, told: Report): void;
  /** A peer that is connected says what it is now. Returns why not to talk to it, or null. */
  heard(place: number, report: Report): string | null;
  /** The connection to a peer is lost. */
  lost(place: number): void;
}

export interface TransportOptions {
  readonly identity: Identity;
  readonly replicas: readonly Replica[];
  readonly listen_host: string;
  readonly logger: TransportLogger;
  readonly introductions: Introductions;
  /** Called for each message that arrives. */
  readonly receive: (from: Caller, received: GroupMessage) => void;
}

export interface TransportStats {
  readonly sent_bytes: number;
  readonly received_bytes: number;
  readonly dropped_messages: number;
  readonly connected_peers: number;
}

/** The way to the peers, as a node sees it. */
export interface Connections {
  /** Queues a message to the replica at a place; it leaves with `flush`. */
  send(place: number, message: GroupMessage): void;
  /** Sends what was queued since the last call. */
  flush(): void;
  /** Tells all peers what this replica is now. */
  tell(): void;
  /** Gives up all connections, and dials new ones, as its peers will: it is not who it was. */
  reintroduce(): void;
  stats(): TransportStats;
  /** Nothing is sent or received any more. */
  close(): Promise<void>;
}

/** The two connections to a peer. */
interface Lanes {
  readonly control: Outgoing;
  readonly data: Outgoing;
  statuses_unanswered: number;
  /** Why this replica does not talk to the peer, as last said. */
  objection: string | null;
}

export class Transport implements Connections {
  readonly #options: TransportOptions;
  readonly #server: Server;
  readonly #incoming: Incoming;
  readonly #peers = new Map<number, Lanes>();
  readonly #teller: NodeJS.Timeout;
  #closed = false;

  private constructor(options: TransportOptions) {
    const { identity, logger, introductions, receive } = options;
    this.#options = options;
    this.#incoming = new Incoming({
      replicas: options.replicas.length,
      refusal: (hello) => this.#refusal(hello),
      admit: ({ from, report }, answer) => introductions.admit(from, report, answer),
      status: (from, report) => introductions.heard(from, report),
      receive,
      warn: (message) => logger.warn(message),
    });
    this.#server = createServer({ noDelay: true }, (socket) => {
      if (this.#closed) socket.destroy();
      else this.#incoming.accept(socket);
    });
    for (const peer of options.replicas) {
      if (peer.id !== identity.replica) this.#peers.set(peer.id, this.#lanesTo(peer));
    }
    this.#teller = setInterval(() => this.#tellRegularly(), STATUS_MS);
  }

  /** Listens on the own paxos port, then dials the peers without waiting for them. Throws CONFIG if it cannot listen. */
  static async start(options: TransportOptions): Promise<Transport> {
    const transport = new Transport(options);
    try {
      await transport.#listen();
    } catch (error) {
      await transport.close();
      throw error;
    }
    for (const lane of transport.#lanes()) lane.dial();
    return transport;
  }

  /** Queues a message to the replica at a place; it leaves with `flush`. */
  send(place: number, message: GroupMessage): void {
    this.#peers.get(place)?.[laneOf(message.message)].push(encodeMessage(message));
  }

  /** Sends what was queued since the last call, one frame for each connection. */
  flush(): void {
    for (const { control, data } of this.#peers.values()) {
      control.flush();
      data.flush();
    }
  }

  /** Tells all peers what this replica is now. */
  tell(): void {
    const report = this.#options.introductions.report();
    for (const { control } of this.#peers.values()) control.tell(report);
  }

  /** Gives up all connections, and dials new ones, as its peers will: it is not who it was. */
  reintroduce(): void {
    this.#incoming.hangUp();
    for (const lane of this.#lanes()) lane.reset();
  }

  stats(): TransportStats {
    let sent_bytes = 0;
    let dropped_messages = 0;
    let connected_peers = 0;
    for (const lane of this.#lanes()) {
      sent_bytes += lane.sent_bytes;
      dropped_messages += lane.dropped_messages;
    }
    for (const { control } of this.#peers.values()) if (control.connected) connected_peers += 1;
    return { sent_bytes, received_bytes: this.#incoming.received_bytes, dropped_messages, connected_peers };
  }

  /** Closes all connections and the port. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#teller);
    for (const lane of this.#lanes()) lane.close();
    this.#incoming.hangUp();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #listen(): Promise<void> {
    const { identity, replicas, listen_host } = this.#options;
    const self = replicas.find((replica) => replica.id === identity.replica);
    if (self === undefined) {
      throw new PhxError('CONFIG', `replica ${identity.replica} is not among the configured ones`);
    }
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

  #lanesTo(peer: Replica): Lanes {
    const { identity, logger, introductions } = this.#options;
    const shared = {
      identity,
      replicas: this.#options.replicas.length,
      report: () => introductions.report(),
    };
    const nothing = (): void => undefined;
    const lanes: Lanes = {
      control: new Outgoing(peer, {
        ...shared,
        onWelcome: (report, told) => {
          lanes.statuses_unanswered = 0;
          const objection = introductions.welcomed(peer.id, report, told);
          if (objection !== null && objection !== lanes.objection) {
            logger.warn(`this replica does not talk to replica ${peer.id}: ${objection}`);
          }
          lanes.objection = objection;
          if (objection !== null) return false;
          const now = introductions.report();
          if (now.agreed !== told.agreed || now.formed !== told.formed) lanes.control.tell(now);
          return true;
        },
        onAlive: () => {
          lanes.statuses_unanswered = 0;
        },
        onRefused: ({ reason, old_folder }, told) => {
          logger.warn(`replica ${peer.id} refused this one: ${reason}`);
          if (old_folder) introductions.foundOld(peer.id, told);
        },
        onLost: () => introductions.lost(peer.id),
      }),
      data: new Outgoing(peer, {
        ...shared,
        onWelcome: () => true,
        onAlive: nothing,
        onRefused: nothing,
        onLost: nothing,
      }),
      statuses_unanswered: 0,
      objection: null,
    };
    return lanes;
  }

  *#lanes(): Generator<Outgoing> {
    for (const { control, data } of this.#peers.values()) {
      yield control;
      yield data;
    }
  }

  /** On the connections for votes: on a busy connection for values the answer would take its time. */
  #tellRegularly(): void {
    for (const [id, lanes] of this.#peers) {
      if (!lanes.control.connected) continue;
      if (lanes.statuses_unanswered >= STATUSES_UNANSWERED_MAX) {
        this.#options.logger.warn(`replica ${id} does not answer; connecting anew`);
        lanes.control.reset();
        lanes.data.reset();
      } else {
        lanes.statuses_unanswered += 1;
        lanes.control.tell(this.#options.introductions.report());
      }
    }
  }

  #refusal(hello: Hello): string | null {
    const { identity, replicas } = this.#options;
    if (hello.cluster !== identity.cluster) return `this is cluster ${identity.cluster}, not ${hello.cluster}`;
    if (hello.groups !== identity.groups) return `this cluster has ${identity.groups} groups, not ${hello.groups}`;
    if (hello.to !== identity.replica) return `this is replica ${identity.replica}, not ${hello.to}`;
    if (hello.replicas !== replicas.length) {
      return `this store has ${replicas.length} replicas by its configuration, not ${hello.replicas}`;
    }
    const known = replicas.some((replica) => replica.id === hello.from && replica.id !== identity.replica);
    return known ? null : `replica ${hello.from} is not a peer`;
  }
}

function laneOf(message: PeerMessage): 'control' | 'data' {
  switch (message.type) {
    case 'accept':
    case 'accepted':
    case 'promise':
    case 'fetch':
    case 'learn':
    case 'snapshot_offer':
    case 'snapshot_fetch':
    case 'snapshot_part':
      return 'data';
    default:
      return 'control';
  }
}
