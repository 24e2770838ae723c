/**
 * The simulated network between nodes: messages travel in the bytes of the codec, may be lost, doubled, late and out of order,
 * and links may be blocked in one direction or clogged for a while. The words by which connections come about and are kept
 * (introductions.ts) stay in order, and a lost one is repeated and late, as over TCP.
 */
import { decodeMessages, type PeerMessage } from '../../src/ts/paxos/codec.js';
import type { Birth, Report } from '../../src/ts/paxos/report.js';
import type { Connections, TransportOptions } from '../../src/ts/paxos/transport.js';
import type { Faults } from './faults.js';
import { type Call, Party } from './introductions.js';
import type { Random } from './random.js';
import type { Timeline } from './timeline.js';

/** A process that takes part. */
export interface Endpoint {
  readonly id: number;
  readonly alive: boolean;
  /** Runs what the process does next, once it can. */
  deliver(run: () => void): void;
  /** Messages of these types left for the network. */
  sent(types: readonly PeerMessage['type'][]): void;
  /** A peer let it in, and remembers durably what it had said of itself. */
  welcomed(by: number, told: Report): void;
  /** A connection was lost. */
  lost(to: number): void;
}

export interface Parcel {
  readonly type: PeerMessage['type'];
  readonly bytes: Uint8Array;
}

/** One direction of a connection: what is said in it arrives in order. */
export interface Direction {
  free_at_ms: number;
}

interface Sent extends Parcel {
  readonly call: Call;
}

interface Clog {
  readonly until_ms: number;
  readonly parcels: Sent[];
}

/** A word that was lost is said again after so long. */
const REPEAT_MS = 200;

export class SimNetwork {
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #faults: Faults;
  readonly #trace: (line: string) => void;
  readonly #parties = new Map<number, Party>();
  readonly #blocked = new Set<string>();
  /** What waits in clogged links. */
  readonly #clogs = new Map<string, Clog>();
  #healthy = false;

  constructor(timeline: Timeline, random: Random, faults: Faults, trace: (line: string) => void) {
    this.#timeline = timeline;
    this.#random = random;
    this.#faults = faults;
    this.#trace = trace;
  }

  /** The connections of a process, which takes the place of an earlier one of the same replica. */
  connect(endpoint: Endpoint, options: TransportOptions): Connections {
    const party = new Party(this, this.#timeline, endpoint, options);
    this.#parties.set(endpoint.id, party);
    party.dial();
    return party;
  }

  /** As whom the process of a replica introduces itself. */
  birthOf(id: number): Birth | null {
    return this.#parties.get(id)?.options.introductions.report().birth ?? null;
  }

  leave(party: Party): void {
    const { id } = party.endpoint;
    if (this.#parties.get(id) === party) this.#parties.delete(id);
  }

  /** Says something that connections are made of; `hear` is given the process there, or null if there is none. */
  say(from: number, to: number, direction: Direction, what: string, hear: (party: Party | null) => void): void {
    const link = linkOf(from, to);
    if (this.#blocked.has(link)) return;
    const { drop, delay, delay_mean_ms } = this.#faults;
    let at_ms = Math.max(this.#timeline.now_ms + this.#latency_ms(), direction.free_at_ms);
    if (!this.#healthy) {
      if (this.#random.chance(drop)) at_ms += REPEAT_MS;
      if (this.#random.chance(delay)) at_ms += this.#random.wait(delay_mean_ms);
      at_ms = Math.max(at_ms, this.#clogs.get(link)?.until_ms ?? 0);
    }
    direction.free_at_ms = at_ms;
    this.#timeline.after(at_ms - this.#timeline.now_ms, () => {
      const party = this.#parties.get(to) ?? null;
      if (party === null) hear(null);
      else {
        party.deliver(() => {
          this.#trace(`${from} to ${to} ${what}`);
          hear(party);
        });
      }
    });
  }

  /** Nobody listens at a machine: the caller hears that. */
  refuse(from: number, call: Call): void {
    const { caller } = call;
    this.say(from, caller.endpoint.id, call.back, 'refuses', (party) => {
      if (party === caller) caller.lineTo(from).hungUp(call);
    });
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
    this.#clogs.set(link, { until_ms: this.#timeline.now_ms + duration_ms, parcels: [] });
    this.#timeline.after(duration_ms, () => this.#unclog(from, to));
  }

  /** Nothing is lost or late any more. */
  heal(): void {
    this.#healthy = true;
    this.unblockAll();
  }

  #unclog(from: number, to: number): void {
    const parcels = this.#clogs.get(linkOf(from, to))?.parcels ?? [];
    this.#clogs.delete(linkOf(from, to));
    while (parcels.length > 0) {
      const [parcel] = parcels.splice(this.#random.integer(0, parcels.length - 1), 1);
      if (parcel !== undefined) this.#deliver(from, to, [parcel], this.#latency_ms());
    }
  }

  /** Sends over a connection. */
  send(from: number, to: number, call: Call, messages: readonly Parcel[]): void {
    const parcels = messages.map(({ type, bytes }) => ({ type, bytes, call }));
    const link = linkOf(from, to);
    if (this.#blocked.has(link)) return;
    const held = this.#clogs.get(link);
    if (held !== undefined) {
      held.parcels.push(...parcels);
      return;
    }
    if (this.#healthy) {
      this.#deliver(from, to, parcels, this.#latency_ms());
      return;
    }
    const random = this.#random;
    const { drop, duplicate, delay, delay_mean_ms } = this.#faults;
    const timely: Sent[] = [];
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

  #deliver(from: number, to: number, parcels: readonly Sent[], delay_ms: number): void {
    const [first] = parcels;
    if (first === undefined) return;
    const { call } = first;
    const frame = Buffer.concat(parcels.map(({ bytes }) => bytes));
    this.#timeline.after(delay_ms, () => {
      const party = this.#parties.get(to);
      if (party === undefined) {
        this.refuse(to, call);
        return;
      }
      party.deliver(() => {
        this.#trace(`${from} to ${to} ${parcels.map(({ type }) => type).join(' ')}`);
        party.receive(call, [...decodeMessages(frame)]);
      });
    });
  }
}

function linkOf(from: number, to: number): string {
  return `${from} ${to}`;
}
