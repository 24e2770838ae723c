/** One protocol core of three, whose peers and disk are the test. */
import { crc32 } from 'node:zlib';
import { ballotFrom, NO_BALLOT } from '../../../src/ts/paxos/core/ballot.js';
import { Group } from '../../../src/ts/paxos/core/group.js';
import { type Configuration, foundedBy } from '../../../src/ts/paxos/core/members.js';
import type { Member } from '../../../src/ts/paxos/core/roster.js';
import type { GroupConfig, Restored } from '../../../src/ts/paxos/core/state.js';
import {
  type AcceptedEntry,
  type CoreOptions,
  DEFAULT_CORE_OPTIONS,
  type Effect,
  type Input,
  type LogWrite,
  type Message,
} from '../../../src/ts/paxos/core/types.js';
import { batchValue, commandsOf } from '../../../src/ts/paxos/core/value.js';

/** A member without a role, as far as the core cares about it. */
export function memberOf(id: number): Omit<Member, 'role'> {
  return { id, birth: id.toString(16).padStart(16, '0'), host: '127.0.0.1', port: 5_000 + id, site: '' };
}

/** Voters from the beginning on. */
export function founded(ids: readonly number[]): Configuration {
  return foundedBy(ids.map((id) => ({ ...memberOf(id), role: 'voter' })));
}

export const EMPTY: Restored = {
  promised: NO_BALLOT,
  longest_grant_ms: 0,
  chosen_through: 0,
  chain: 0,
  configurations: [founded([1, 2, 3])],
  known_through: 0,
  entries: [],
  retained_from: 1,
};

/** As it starts with an empty log, with these founders. */
export function emptyOf(...ids: readonly number[]): Restored {
  return { ...EMPTY, configurations: [founded(ids)] };
}

/** Replica 1 of group 0. */
export function configOf(options: Partial<CoreOptions>): GroupConfig {
  const all = { ...DEFAULT_CORE_OPTIONS, ...options };
  return { group: 0, self: 1, options: all, voting: true, checksum: crc32, seed: 7 };
}

type MessageOf<Type extends Message['type']> = Message & { type: Type };

export class Probe {
  readonly group: Group;
  readonly written: LogWrite[] = [];
  readonly applied: { readonly instance: number; readonly texts: readonly string[] }[] = [];
  readonly answered: number[] = [];
  readonly refused: string[] = [];
  readonly transfers: string[] = [];
  /** Peers that need a snapshot. */
  readonly snapshots: number[] = [];
  /** Changes of the members that were applied, learners in brackets. */
  readonly members: string[] = [];
  #sent: { readonly to: number; readonly message: Message }[] = [];
  #appended = 0;
  /** Just after the start: then no grant of an earlier life binds, unless `restored` says so. */
  now_ms = 1;

  constructor(options: Partial<CoreOptions> = {}, restored: Restored = EMPTY) {
    this.group = new Group(configOf(options), restored, 0);
  }

  step(input: Input): void {
    for (const effect of this.group.step(this.now_ms, input)) this.#perform(effect);
  }

  receive(from: number, message: Message): void {
    this.step({ type: 'message', from, message });
  }

  propose(id: number, text: string, deadline_ms = this.now_ms + 5_000): void {
    const bytes = Buffer.from(text);
    this.step({ type: 'propose', proposal: { id, parts: [bytes], bytes: bytes.length, deadline_ms } });
    this.step({ type: 'flush' });
  }

  /** Lets time pass in ticks. */
  pass(duration_ms: number): void {
    for (const until_ms = this.now_ms + duration_ms; this.now_ms < until_ms; ) {
      this.now_ms += 20;
      this.step({ type: 'tick' });
    }
  }

  /** The disk is done with everything appended so far. */
  sync(): void {
    while (this.#appended > 0) {
      const append = this.#appended;
      this.#appended = 0;
      this.step({ type: 'durable', append });
    }
  }

  /** Messages of a type sent since the last call with it. */
  take<Type extends Message['type']>(type: Type): MessageOf<Type>[] {
    const taken = this.#sent.flatMap(({ message }) => (isOf(message, type) ? [message] : []));
    this.#sent = this.#sent.filter(({ message }) => message.type !== type);
    return taken;
  }

  /** To whom the fetches were sent since the last call. */
  askedToFetch(): number[] {
    const asked = this.#sent.flatMap(({ to, message }) => (message.type === 'fetch' ? [to] : []));
    this.take('fetch');
    return asked;
  }

  /** Passes time until this replica stands for election; 2 gives its pre-vote. Returns the ballot that it prepares. */
  prepare(): number {
    this.take('prepare');
    while (this.group.role === 'follower') this.pass(20);
    const round = this.take('pre_vote').at(-1)?.round ?? 0;
    this.receive(2, { type: 'pre_vote_reply', round, granted: true, promised: NO_BALLOT });
    this.sync();
    const ballot = this.take('prepare').at(-1)?.ballot;
    if (ballot === undefined) throw new Error('it does not prepare');
    return ballot;
  }

  /** Makes it lead with the promise of 2. */
  lead(entries: readonly AcceptedEntry[] = [], chosen_through = 0): number {
    const ballot = this.prepare();
    this.receive(2, { type: 'promise', ballot: ballotFrom(ballot), chosen_through, entries });
    this.sync();
    return ballot;
  }

  /** 2 grants the lease for the newest heartbeat. */
  grant(): void {
    const heartbeat = this.take('heartbeat').at(-1);
    if (heartbeat === undefined) throw new Error('no heartbeat was sent');
    this.receive(2, replyTo(heartbeat));
  }

  get master(): boolean {
    return this.group.isMaster(this.now_ms);
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case 'send':
        this.#sent.push(effect);
        break;
      case 'append':
        this.#appended = effect.append;
        this.written.push(...effect.writes);
        break;
      case 'apply':
        this.applied.push({ instance: effect.instance, texts: textsOf(effect.value) });
        this.answered.push(...(effect.proposals ?? []));
        break;
      case 'refuse':
        this.refused.push(`${effect.proposal} ${effect.reason}`);
        break;
      case 'members': {
        const { chosen_at, from, members } = effect.configuration;
        const names = members.map(({ id, role }) => (role === 'voter' ? `${id}` : `(${id})`));
        this.members.push(`${names.join(' ')} chosen at ${chosen_at} from ${from}`);
        if (effect.proposal !== null) this.answered.push(effect.proposal);
        break;
      }
      case 'removed':
        this.members.push('removed');
        break;
      case 'transferred':
        this.transfers.push(`to ${effect.to}`);
        break;
      case 'transfer_refused':
        this.transfers.push(effect.reason);
        break;
      case 'serve_snapshot':
        this.snapshots.push(effect.to);
        break;
      case 'serve_fetch':
        break;
    }
  }
}

function isOf<Type extends Message['type']>(message: Message, type: Type): message is MessageOf<Type> {
  return message.type === type;
}

export function textsOf(value: Uint8Array): string[] {
  return commandsOf(value).map(({ offset, length }) => Buffer.from(value.subarray(offset, offset + length)).toString());
}

/** A value with one command, first proposed at `ballot`. */
export function valueAt(ballot: number, text: string): Uint8Array {
  return batchValue(ballotFrom(ballot), [[Buffer.from(text)]]);
}

export function entryAt(instance: number, ballot: number, text: string): AcceptedEntry {
  return { instance, ballot: ballotFrom(ballot), value: valueAt(ballot, text) };
}

export function acceptAt(ballot: number, instance: number, text: string, chosen_through = 0): Message {
  return { type: 'accept', ballot: ballotFrom(ballot), instance, chosen_through, value: valueAt(ballot, text) };
}

export function heartbeatAt(ballot: number, chosen_through: number, sent_at_ms = 0): Message {
  const applied_through = chosen_through;
  return { type: 'heartbeat', ballot: ballotFrom(ballot), chosen_through, applied_through, sent_at_ms, lease_ms: 400 };
}

/** Grants the lease that a heartbeat asks for, and says nothing of the chain. */
export function replyTo({ ballot, sent_at_ms }: Pick<MessageOf<'heartbeat'>, 'ballot' | 'sent_at_ms'>): Message {
  return { type: 'heartbeat_reply', ballot, sent_at_ms, granted: true, instance: 0, chain: 0 };
}

/** The ballot of round `round` of `replica`. */
export function ballotOf(round: number, replica: number): number {
  return round * 65_536 + replica;
}
