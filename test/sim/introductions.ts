/**
 * Simulated connections: each process dials all others, introduces itself, and sends over a connection on which it was
 * welcomed; the other end takes nothing else in. Dialling again, statuses and silence as in the transport over TCP, with
 * control and data on one connection.
 */
import { encodeMessage, type GroupMessage, type PeerMessage } from '../../src/ts/paxos/codec.js';
import type { Admission } from '../../src/ts/paxos/incoming.js';
import type { Birth, Report } from '../../src/ts/paxos/report.js';
import type { Connections, TransportOptions, TransportStats } from '../../src/ts/paxos/transport.js';
import type { Direction, Endpoint, Parcel, SimNetwork } from './network.js';
import type { Timeline } from './timeline.js';

const STATUS_MS = 1_000;
const STATUSES_UNANSWERED_MAX = 3;
/** Shorter than in reality, so that most of a run is not spent waiting. */
const HANDSHAKE_TIMEOUT_MS = 1_000;
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 1_000;

/** One connection, from its first word on. */
export interface Call {
  readonly caller: Party;
  /** As whom the caller introduced itself. */
  readonly birth: Birth;
  /** Who let the caller in. */
  callee: Party | null;
  readonly forth: Direction;
  readonly back: Direction;
}

/** The connections of one process. */
export class Party implements Connections {
  readonly endpoint: Endpoint;
  readonly options: TransportOptions;
  readonly network: SimNetwork;
  readonly timeline: Timeline;
  closed = false;
  readonly #lines = new Map<number, Line>();
  /** Connections on which others were let in. */
  readonly #callers = new Set<Call>();
  #sent_bytes = 0;
  #dropped_messages = 0;

  constructor(network: SimNetwork, timeline: Timeline, endpoint: Endpoint, options: TransportOptions) {
    this.network = network;
    this.timeline = timeline;
    this.endpoint = endpoint;
    this.options = options;
    for (const { id } of options.replicas) if (id !== endpoint.id) this.#lines.set(id, new Line(this, id));
  }

  dial(): void {
    for (const line of this.#lines.values()) line.dial();
    this.#tellRegularly();
  }

  send(place: number, message: GroupMessage): void {
    const bytes = Buffer.concat(encodeMessage(message));
    this.#sent_bytes += bytes.length;
    this.#lines.get(place)?.queue.push({ type: message.message.type, bytes });
  }

  flush(): void {
    const types: PeerMessage['type'][] = [];
    for (const line of this.#lines.values()) {
      const parcels = line.queue.splice(0);
      if (!this.endpoint.alive || !line.send(parcels)) this.#dropped_messages += parcels.length;
      else for (const { type } of parcels) types.push(type);
    }
    if (types.length > 0) this.endpoint.sent(types);
  }

  tell(): void {
    for (const line of this.#lines.values()) line.tell();
  }

  reintroduce(): void {
    for (const call of [...this.#callers]) this.hangUp(call);
    for (const line of this.#lines.values()) line.reset();
  }

  stats(): TransportStats {
    const connected_peers = [...this.#lines.values()].filter(({ connected }) => connected).length;
    const [sent_bytes, dropped_messages] = [this.#sent_bytes, this.#dropped_messages];
    return { sent_bytes, received_bytes: 0, dropped_messages, connected_peers };
  }

  async close(): Promise<void> {
    this.closed = true;
    this.network.leave(this);
  }

  /** Runs what the process does next, once it can, if it still takes part. */
  deliver(run: () => void): void {
    this.endpoint.deliver(() => {
      if (this.endpoint.alive && !this.closed) run();
    });
  }

  after(delay_ms: number, run: () => void): void {
    this.timeline.after(delay_ms, () => this.deliver(run));
  }

  /** Somebody dials and says who it is. */
  called(call: Call, told: Report): void {
    const place = call.caller.endpoint.id;
    this.options.introductions.admit(place, told, (admission) => {
      if (!this.endpoint.alive) return;
      if (admission.type === 'welcome') {
        call.callee = this;
        this.#callers.add(call);
      }
      this.#reply(call, admission.type, (line) => line.answered(call, told, admission));
    });
  }

  /** Whoever was let in says what it is now. */
  toldBy(call: Call, report: Report): void {
    if (call.callee !== this) this.hangUp(call);
    else if (this.options.introductions.heard(call.caller.endpoint.id, report) !== null) this.hangUp(call);
    else this.#reply(call, 'alive', (line) => line.alive(call));
  }

  receive(call: Call, received: readonly GroupMessage[]): void {
    if (call.callee !== this) {
      this.hangUp(call);
      return;
    }
    const caller = { place: call.caller.endpoint.id, birth: call.birth };
    for (const one of received) if (this.endpoint.alive) this.options.receive(caller, one);
  }

  hangUp(call: Call): void {
    call.callee = null;
    this.#callers.delete(call);
    this.#reply(call, 'hangs up', (line) => line.hungUp(call));
  }

  lineTo(id: number): Line {
    const line = this.#lines.get(id);
    if (line === undefined) throw new RangeError(`there is no replica ${id}`);
    return line;
  }

  #reply(call: Call, what: string, hear: (line: Line) => void): void {
    const { id } = this.endpoint;
    const { caller } = call;
    this.network.say(id, caller.endpoint.id, call.back, what, (party) => {
      if (party === caller) hear(caller.lineTo(id));
    });
  }

  #tellRegularly(): void {
    this.after(STATUS_MS, () => {
      for (const line of this.#lines.values()) line.tellRegularly();
      this.#tellRegularly();
    });
  }
}

/** The way from a process to one of the others. */
class Line {
  readonly queue: Parcel[] = [];
  readonly #party: Party;
  readonly #to: number;
  /** The connection, or the attempt at one. */
  #call: Call | null = null;
  connected = false;
  #unanswered = 0;
  #backoff_ms = BACKOFF_MIN_MS;

  constructor(party: Party, to: number) {
    this.#party = party;
    this.#to = to;
  }

  dial(): void {
    const party = this.#party;
    const told = party.options.introductions.report();
    const directions = { forth: { free_at_ms: 0 }, back: { free_at_ms: 0 } };
    const call: Call = { caller: party, birth: told.birth, callee: null, ...directions };
    this.#call = call;
    this.#say(call, 'hello', (callee) => callee.called(call, told));
    party.after(HANDSHAKE_TIMEOUT_MS, () => {
      if (this.#call === call && !this.connected) this.reset();
    });
  }

  /** False if nothing can be sent. */
  send(parcels: readonly Parcel[]): boolean {
    if (!this.connected || this.#call === null) return false;
    if (parcels.length > 0) this.#party.network.send(this.#party.endpoint.id, this.#to, this.#call, parcels);
    return true;
  }

  tell(): void {
    const call = this.#call;
    if (!this.connected || call === null) return;
    const report = this.#party.options.introductions.report();
    this.#say(call, 'status', (callee) => callee.toldBy(call, report));
  }

  tellRegularly(): void {
    if (!this.connected) return;
    this.#unanswered += 1;
    if (this.#unanswered > STATUSES_UNANSWERED_MAX) this.reset();
    else this.tell();
  }

  answered(call: Call, told: Report, admission: Admission): void {
    if (this.#call !== call || this.connected) return;
    const { introductions } = this.#party.options;
    if (admission.type === 'old') introductions.foundOld(this.#to, told);
    if (admission.type !== 'welcome') {
      this.reset();
      return;
    }
    this.connected = true;
    this.#unanswered = 0;
    this.#party.endpoint.welcomed(this.#to, told);
    if (introductions.welcomed(this.#to, admission.report, told) !== null) {
      this.reset();
      return;
    }
    this.#backoff_ms = BACKOFF_MIN_MS;
    const now = introductions.report();
    if (now.agreed !== told.agreed || now.formed !== told.formed) this.tell();
  }

  alive(call: Call): void {
    if (this.#call === call) this.#unanswered = 0;
  }

  hungUp(call: Call): void {
    if (this.#call === call) this.reset();
  }

  /** Gives up the connection, or the attempt at one; the next one is dialled after a while. */
  reset(): void {
    if (this.#call === null) return;
    const party = this.#party;
    this.#call = null;
    this.queue.length = 0;
    if (this.connected) {
      this.connected = false;
      party.endpoint.lost(this.#to);
      party.options.introductions.lost(this.#to);
    }
    party.after(this.#backoff_ms, () => this.dial());
    this.#backoff_ms = Math.min(2 * this.#backoff_ms, BACKOFF_MAX_MS);
  }

  /** Whoever does not know the connection hangs up. */
  #say(call: Call, what: string, hear: (callee: Party) => void): void {
    this.#party.network.say(this.#party.endpoint.id, this.#to, call.forth, what, (callee) => {
      if (callee === null) this.#party.network.refuse(this.#to, call);
      else hear(callee);
    });
  }
}
