/**
 * The simulated network between nodes: messages travel in the bytes of the codec, may be lost, doubled, late and out of order,
 * and links may be blocked in one direction or clogged for a while. Connecting and introductions are not simulated.
 */
import { decodeMessages, encodeMessage, type GroupMessage } from '../../src/ts/paxos/codec.js';
import type { Message } from '../../src/ts/paxos/core/types.js';
import type { Connections, TransportStats } from '../../src/ts/paxos/transport.js';
import type { Faults } from './faults.js';
import type { Random } from './random.js';
import type { Timeline } from './timeline.js';

/** A process that takes part. */
export interface Endpoint {
  readonly id: number;
  readonly alive: boolean;
  /** Runs what the process does next, once it can. */
  deliver(run: () => void): void;
  /** Messages of these types left for the network. */
  sent(types: readonly Message['type'][]): void;
}

interface Listener {
  readonly endpoint: Endpoint;
  readonly receive: (from: number, received: GroupMessage) => void;
}

interface Parcel {
  readonly type: Message['type'];
  readonly bytes: Uint8Array;
}

export class SimNetwork {
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #faults: Faults;
  readonly #trace: (line: string) => void;
  readonly #listeners = new Map<number, Listener>();
  readonly #blocked = new Set<string>();
  /** What waits in clogged links. */
  readonly #clogs = new Map<string, Parcel[]>();
  #healthy = false;

  constructor(timeline: Timeline, random: Random, faults: Faults, trace: (line: string) => void) {
    this.#timeline = timeline;
    this.#random = random;
    this.#faults = faults;
    this.#trace = trace;
  }

  /** The connections of a process, which takes the place of an earlier one of the same replica. */
  connect(endpoint: Endpoint, receive: (from: number, received: GroupMessage) => void): Connections {
    const { id } = endpoint;
    this.#listeners.set(id, { endpoint, receive });
    const queues = new Map<number, Parcel[]>();
    let sent_bytes = 0;
    return {
      send: (to, group, message) => {
        const bytes = Buffer.concat(encodeMessage(group, message));
        sent_bytes += bytes.length;
        const queue = queues.get(to);
        if (queue === undefined) queues.set(to, [{ type: message.type, bytes }]);
        else queue.push({ type: message.type, bytes });
      },
      flush: () => {
        const types: Message['type'][] = [];
        for (const [to, queue] of queues) {
          if (endpoint.alive) this.#send(id, to, queue);
          for (const { type } of queue) types.push(type);
        }
        queues.clear();
        if (types.length > 0) endpoint.sent(types);
      },
      stats: () => this.#stats(id, sent_bytes),
      close: async () => {
        if (this.#listeners.get(id)?.endpoint === endpoint) this.#listeners.delete(id);
      },
    };
  }

  block(from: number, to: number): void {
    this.#blocked.add(linkOf(from, to));
  }

  unblockAll(): void {
    this.#blocked.clear();
  }

  /** Holds back what is sent from now on; it arrives after `duration_ms`, in any order. */
  clog(from: number, to: number, duration_ms: number): void {
    const link = linkOf(from, to);
    if (this.#clogs.has(link)) return;
    this.#clogs.set(link, []);
    this.#timeline.after(duration_ms, () => this.#unclog(from, to));
  }

  /** Nothing is lost or late any more. */
  heal(): void {
    this.#healthy = true;
    this.unblockAll();
  }

  #unclog(from: number, to: number): void {
    const parcels = this.#clogs.get(linkOf(from, to)) ?? [];
    this.#clogs.delete(linkOf(from, to));
    while (parcels.length > 0) {
      const [parcel] = parcels.splice(this.#random.integer(0, parcels.length - 1), 1);
      if (parcel !== undefined) this.#deliver(from, to, [parcel], this.#latency_ms());
    }
  }

  #send(from: number, to: number, parcels: readonly Parcel[]): void {
    const link = linkOf(from, to);
    if (this.#blocked.has(link)) return;
    const held = this.#clogs.get(link);
    if (held !== undefined) {
      held.push(...parcels);
      return;
    }
    if (this.#healthy) {
      this.#deliver(from, to, parcels, this.#latency_ms());
      return;
    }
    const random = this.#random;
    const { drop, duplicate, delay, delay_mean_ms } = this.#faults;
    const timely: Parcel[] = [];
    for (const parcel of parcels) {
      if (random.chance(drop)) continue;
      const late = random.chance(delay);
      if (!late) timely.push(parcel);
      if (late || random.chance(duplicate)) this.#deliver(from, to, [parcel], random.wait(delay_mean_ms));
    }
    if (timely.length > 0) this.#deliver(from, to, timely, this.#latency_ms());
  }

  #latency_ms(): number {
    return this.#faults.latency_ms * this.#random.between(0.5, 1.5);
  }

  #deliver(from: number, to: number, parcels: readonly Parcel[], delay_ms: number): void {
    const frame = Buffer.concat(parcels.map(({ bytes }) => bytes));
    this.#timeline.after(delay_ms, () => {
      const listener = this.#listeners.get(to);
      if (listener === undefined) return;
      const { endpoint, receive } = listener;
      endpoint.deliver(() => {
        this.#trace(`${from} to ${to} ${parcels.map(({ type }) => type).join(' ')}`);
        for (const message of decodeMessages(frame)) if (endpoint.alive) receive(from, message);
      });
    });
  }

  #stats(id: number, sent_bytes: number): TransportStats {
    let connected_peers = 0;
    for (const other of this.#listeners.keys()) if (other !== id) connected_peers += 1;
    return { sent_bytes, received_bytes: 0, dropped_messages: 0, connected_peers };
  }
}

function linkOf(from: number, to: number): string {
  return `${from} ${to}`;
}
