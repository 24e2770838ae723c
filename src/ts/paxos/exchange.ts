/**
 * What goes between the groups of this replica and those of the others: under which member ids it goes, and whose word it is that
 * comes. The connections know places and births, the groups know members.
 */
import { assert } from '../errors.js';
import type { GroupMessage, PeerMessage } from './codec.js';
import type { Group } from './core/group.js';
import type { Enrolment } from './enrolment.js';
import type { Caller } from './incoming.js';
import { asksForWrites, problemOf } from './message_check.js';
import { NO_ID, placeOf } from './places.js';
import { senderOf } from './senders.js';
import type { Connections, TransportLogger, TransportStats } from './transport.js';

/** While more than this waits for a slow or full disk, peers are not listened to that bring more to write. */
const WRITES_WAITING_BYTES_MAX = 64 * 1024 * 1024;

export interface ExchangeParts {
  readonly groups: readonly Group[];
  readonly enrolment: Enrolment;
  readonly logger: TransportLogger;
  /** Whether a group waits for its state: then its core may not know which member it is. */
  readonly standsStill: (group: number) => boolean;
  /** Bytes that wait for the disk. */
  readonly waiting_bytes: () => number;
  /** A member said this to the group. */
  readonly take: (group: number, from: number, message: PeerMessage) => void;
}

export class Exchange {
  readonly #parts: ExchangeParts;
  #connections: Connections | null = null;

  constructor(parts: ExchangeParts) {
    this.#parts = parts;
  }

  /** From now on there are peers. */
  open(connections: Connections): void {
    this.#connections = connections;
  }

  async close(): Promise<void> {
    await this.#connections?.close();
  }

  /** This replica introduces itself anew. */
  reintroduce(): void {
    this.#connections?.reintroduce();
  }

  /** This replica says what it is now. */
  tell(): void {
    this.#connections?.tell();
  }

  /** What was queued leaves. */
  flush(): void {
    this.#connections?.flush();
  }

  stats(): TransportStats {
    assert(this.#connections !== null, 'a started node has its connections');
    return this.#connections.stats();
  }

  get connected_peers(): number {
    return this.#connections?.stats().connected_peers ?? 0;
  }

  /** Queues a message to a member; it leaves with `flush`. */
  send(group: number, to: number, message: PeerMessage): void {
    const place = placeOf(to);
    // Who joins fetches what is chosen: values that are only proposed would be a burden to it.
    if (message.type === 'accept' && this.#parts.enrolment.joins(place)) return;
    this.#connections?.send(place, { group, from: this.#selfIn(group), to, message });
  }

  /** Takes a message in if it counts for somebody. */
  receive({ place, birth }: Caller, said: GroupMessage): void {
    const { groups, enrolment, logger, waiting_bytes, take } = this.#parts;
    const { group, message } = said;
    const core = groups[group];
    if (core === undefined) return;
    const founder = enrolment.isFounder(place, birth);
    const { configurations } = core;
    const from = senderOf({ self: this.#selfIn(group), configurations }, { place, birth, founder }, said);
    if (from === null) return;
    // As if it had been lost: who asks repeats it.
    if (waiting_bytes() > WRITES_WAITING_BYTES_MAX && asksForWrites(message)) return;
    const problem = problemOf(from, message);
    if (problem === null) take(group, from, message);
    else logger.warn(`group ${group}: ignored a ${message.type} of replica ${place}: ${problem}`);
  }

  #selfIn(group: number): number {
    const { groups, enrolment, standsStill } = this.#parts;
    if (standsStill(group)) return enrolment.may_vote ? enrolment.idIn(group) : NO_ID;
    return groups[group]?.self ?? NO_ID;
  }
}
