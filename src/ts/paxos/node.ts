/**
 * The shell around the protocol core: performs its effects on the log, the replica connections and the state machine,
 * and feeds it with what comes back. All work of one turn of the event loop leaves together: one append to the log, one
 * frame to each peer.
 */
import { performance } from 'node:perf_hooks';
import { crc32 } from 'node:zlib';
import { assert, type ErrorCode, PhxError } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import type { GroupMessage } from './codec.js';
import { Group } from './core/group.js';
import { type Configuration, foundedBy } from './core/members.js';
import type { CoreOptions, Effect, Input, Refusal } from './core/types.js';
import { commandsOf } from './core/value.js';
import type { Identity } from './identity.js';
import { LogWriter } from './log_writer.js';
import { problemOf } from './message_check.js';
import { entryOf, recordOf, restoreGroup } from './records.js';
import type { Applied, Command, Mastership, Replica, ReplicatedLog, StateMachine } from './replicated_log.js';
import { Transport, type TransportLogger, type TransportStats } from './transport.js';
import { ValueCache } from './value_cache.js';

const TICK_MS = 20;
/** Applied values kept in memory, all groups together. */
const VALUE_CACHE_BYTES_MAX = 32 * 1024 * 1024;
/** Bytes of values in one answer to a peer that catches up. */
const LEARN_BYTES_MAX = 1024 * 1024;
/** Without a master for this long the node says so, and again at this interval. */
const NO_MASTER_AFTER_MS = 1_500;
const NO_MASTER_REPEAT_MS = 5_000;

/** Sources of time. Monotonic time does not run while the machine sleeps, wall time does. */
export interface Clock {
  monotonic_ms(): number;
  wall_ms(): number;
}

export interface PaxosNodeOptions {
  readonly identity: Identity;
  readonly replicas: readonly Replica[];
  readonly listen_host: string;
  readonly log: LogEngine;
  readonly stateMachine: StateMachine;
  readonly core: CoreOptions;
  /** A proposal not chosen in this time rejects with PROPOSE_TIMEOUT. */
  readonly propose_timeout_ms: number;
  readonly logger: TransportLogger;
  readonly clock?: Clock;
  /** Called while groups stay without a master: probably fewer than a majority of the replicas are up. */
  readonly onNoMaster?: (groups: readonly number[], connectedPeers: number) => void;
  /** The log or the state machine failed: nothing can be promised any more, the process has to stop. */
  readonly onFailure: (error: Error) => void;
}

interface Waiter {
  readonly resolve: (applied: Applied) => void;
  readonly reject: (error: PhxError) => void;
}

const SYSTEM_CLOCK: Clock = { monotonic_ms: () => performance.now(), wall_ms: () => Date.now() };

const REFUSALS: Readonly<Record<Refusal, string>> = {
  NOT_MASTER: 'this replica does not lead the group',
  NO_MASTER: 'no replica is known to lead the group',
  PROPOSE_TIMEOUT: 'not chosen in time; it may still be',
  PROPOSE_FAST_REJECT: 'too many proposals wait',
  SIZE_TOO_LARGE: 'the command exceeds its size limit',
  MEMBERS_PENDING: 'another change of the members is on its way',
  MEMBERS_INVALID: 'the members cannot be changed so',
  MEMBERS_LAGS: 'the replica that shall vote has not caught up',
};

export class PaxosNode implements ReplicatedLog {
  readonly self: number;
  readonly replicas: readonly Replica[];
  readonly groups: number;
  readonly #options: PaxosNodeOptions;
  readonly #clock: Clock;
  readonly #groups: readonly Group[];
  readonly #cache = new ValueCache(VALUE_CACHE_BYTES_MAX);
  readonly #waiters = new Map<number, Waiter>();
  readonly #dirty = new Set<number>();
  readonly #serving = new Set<string>();
  readonly #timer: NodeJS.Timeout;
  readonly #writer: LogWriter;
  #transport: Transport | null = null;
  #scheduled = false;
  #proposals = 0;
  #wall_offset_ms: number;
  #closing: Promise<void> | null = null;
  readonly #masterless_since_ms: (number | null)[];
  #no_master_said_at_ms = Number.NEGATIVE_INFINITY;

  private constructor(options: PaxosNodeOptions, clock: Clock, groups: readonly Group[]) {
    this.#options = options;
    this.#clock = clock;
    this.#groups = groups;
    this.self = options.identity.replica;
    this.replicas = options.replicas;
    this.groups = groups.length;
    this.#masterless_since_ms = groups.map(() => null);
    this.#wall_offset_ms = clock.wall_ms() - clock.monotonic_ms();
    this.#writer = new LogWriter(
      options.log,
      (group, append) => this.#step(group, { type: 'durable', append }),
      options.onFailure,
    );
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Replays the log into the state machine, then listens and takes part. Throws LOG_CORRUPT, CONFIG. */
  static async start(options: PaxosNodeOptions): Promise<PaxosNode> {
    const clock = options.clock ?? SYSTEM_CLOCK;
    const { identity, log, stateMachine } = options;
    const founders = foundersOf(options.replicas);
    const groups: Group[] = [];
    for (let group = 0; group < identity.groups; group += 1) {
      const restored = await restoreGroup(log, group, founders, crc32, (instance, value) => {
        stateMachine.apply(group, instance, commandsIn(value));
      });
      const seed = Math.floor(Math.random() * 2 ** 32);
      const config = {
        group,
        self: identity.replica,
        options: options.core,
        checksum: crc32,
        voting: true,
        seed,
      };
      groups.push(new Group(config, restored, clock.monotonic_ms()));
    }
    const node = new PaxosNode(options, clock, groups);
    try {
      node.#transport = await Transport.start({
        identity,
        replicas: options.replicas,
        listen_host: options.listen_host,
        logger: options.logger,
        receive: (from, received) => node.#receive(from, received),
      });
    } catch (error) {
      await node.close();
      throw error;
    }
    return node;
  }

  mastership(group: number): Mastership {
    if (this.#closed) return { role: 'unknown' };
    this.#watchClock();
    const core = this.#group(group);
    if (core.isMaster(this.#clock.monotonic_ms())) return { role: 'master' };
    const { leader } = core;
    return leader === null || leader === this.self ? { role: 'unknown' } : { role: 'follower', master: leader };
  }

  propose(group: number, command: readonly Uint8Array[]): Promise<Applied> {
    if (this.#closed) return Promise.reject(new PhxError('CLOSED', 'this node is closed'));
    this.#proposals += 1;
    const id = this.#proposals;
    const bytes = command.reduce((sum, part) => sum + part.length, 0);
    const deadline_ms = this.#clock.monotonic_ms() + this.#options.propose_timeout_ms;
    return new Promise<Applied>((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#step(group, { type: 'propose', proposal: { id, parts: command, bytes, deadline_ms } });
    });
  }

  value(group: number, instance: number): Uint8Array | Promise<Uint8Array> {
    return this.#cache.get(group, instance) ?? this.#readValue(group, instance);
  }

  appliedThrough(group: number): number {
    return this.#group(group).applied_through;
  }

  /** For metrics and the status page. */
  status(group: number): {
    role: string;
    leader: number | null;
    ballot: number;
    chosen_through: number;
    waiting: number;
  } {
    const { role, leader, ballot, chosen_through, waiting } = this.#group(group);
    return { role, leader, ballot, chosen_through, waiting };
  }

  transportStats(): TransportStats {
    assert(this.#transport !== null, 'a started node has its transport');
    return this.#transport.stats();
  }

  /** Leaves the protocol: waiting proposals reject with CLOSED. The log stays open, it belongs to the caller. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    this.#writer.close();
    await this.#transport?.close();
    for (const waiter of this.#waiters.values()) waiter.reject(new PhxError('CLOSED', 'this node is closed'));
    this.#waiters.clear();
  }

  get #closed(): boolean {
    return this.#closing !== null;
  }

  #group(group: number): Group {
    const core = this.#groups[group];
    assert(core !== undefined, 'the group exists');
    return core;
  }

  #step(group: number, input: Input): void {
    this.#orDie(() => {
      const effects = this.#group(group).step(this.#clock.monotonic_ms(), input);
      for (const effect of effects) this.#perform(group, effect);
      if (input.type === 'propose') this.#dirty.add(group);
      if (effects.length > 0 || input.type === 'propose') this.#schedule();
    });
  }

  /** A step that fails half-way leaves core and log apart: from then on nothing may leave this replica. */
  #orDie(work: () => void): void {
    if (this.#closed) return;
    try {
      work();
    } catch (error) {
      void this.close();
      this.#options.onFailure(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Ends the turn once everything that is ready now was taken in. */
  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => this.#endTurn());
  }

  #endTurn(): void {
    this.#scheduled = false;
    this.#orDie(() => {
      for (const group of this.#dirty) {
        const effects = this.#group(group).step(this.#clock.monotonic_ms(), { type: 'flush' });
        for (const effect of effects) this.#perform(group, effect);
      }
      this.#dirty.clear();
      // Values travel to the peers while they are written here.
      this.#transport?.flush();
      this.#writer.flush();
    });
  }

  #perform(group: number, effect: Effect): void {
    switch (effect.type) {
      case 'send':
        this.#transport?.send(effect.to, group, effect.message);
        break;
      case 'append':
        this.#writer.add(
          group,
          effect.append,
          effect.writes.map((write) => recordOf(group, write)),
        );
        break;
      case 'apply':
        this.#apply(group, effect);
        break;
      case 'refuse':
        this.#settle(effect.proposal, (waiter) => waiter.reject(refusalError(effect.reason)));
        break;
      case 'members':
      case 'serve_snapshot':
      case 'removed':
      case 'transferred':
      case 'transfer_refused':
        // Nobody asks for a hand-over or for other members yet, and nothing is deleted from logs.
        break;
      case 'serve_fetch':
        this.#serveFetch(group, effect);
        break;
    }
  }

  #apply(group: number, effect: Effect & { type: 'apply' }): void {
    const { instance, value, proposals } = effect;
    const commands = commandsIn(value);
    const results = this.#options.stateMachine.apply(group, instance, commands);
    assert(results.length === commands.length, 'the state machine answers each command');
    if (commands.length > 0) this.#cache.put(group, instance, value);
    if (proposals === null) return;
    assert(proposals.length === commands.length, 'each own command has its proposal');
    proposals.forEach((proposal, index) => {
      this.#settle(proposal, (waiter) => waiter.resolve({ instance, result: results[index] }));
    });
  }

  #settle(proposal: number, how: (waiter: Waiter) => void): void {
    const waiter = this.#waiters.get(proposal);
    // Not there: it was given up at its deadline.
    if (waiter === undefined) return;
    this.#waiters.delete(proposal);
    how(waiter);
  }

  #receive(from: number, { group, message }: GroupMessage): void {
    if (this.#closed || group >= this.groups) return;
    const problem = problemOf(from, message);
    if (problem === null) this.#step(group, { type: 'message', from, message });
    else this.#options.logger.warn(`group ${group}: ignored a ${message.type} of replica ${from}: ${problem}`);
  }

  #tick(): void {
    this.#watchClock();
    for (let group = 0; group < this.groups; group += 1) this.#step(group, { type: 'tick' });
    // What a full disk had no room for is tried again.
    this.#writer.flush();
    this.#watchMasters();
  }

  /** A wall clock that runs away from the monotonic one means that the machine slept: no lease survives that. */
  #watchClock(): void {
    const offset_ms = this.#clock.wall_ms() - this.#clock.monotonic_ms();
    const jump_ms = Math.abs(offset_ms - this.#wall_offset_ms);
    this.#wall_offset_ms = offset_ms;
    if (jump_ms <= this.#options.core.lease_margin_ms) return;
    this.#options.logger.warn(
      `the wall clock jumped by ${Math.round(jump_ms)} ms; leases are renewed before they are used`,
    );
    for (let group = 0; group < this.groups; group += 1) this.#step(group, { type: 'clock_jump' });
  }

  #watchMasters(): void {
    const now_ms = this.#clock.monotonic_ms();
    const masterless: number[] = [];
    this.#groups.forEach((core, group) => {
      const known = core.isMaster(now_ms) || (core.leader !== null && core.leader !== this.self);
      const since_ms = known ? null : (this.#masterless_since_ms[group] ?? now_ms);
      this.#masterless_since_ms[group] = since_ms;
      if (since_ms !== null && now_ms - since_ms >= NO_MASTER_AFTER_MS) masterless.push(group);
    });
    if (masterless.length === 0 || now_ms - this.#no_master_said_at_ms < NO_MASTER_REPEAT_MS) return;
    this.#no_master_said_at_ms = now_ms;
    this.#options.onNoMaster?.(masterless, this.#transport?.stats().connected_peers ?? 0);
  }

  async #readValue(group: number, instance: number): Promise<Uint8Array> {
    const body = await this.#options.log.read(group, instance);
    if (body === null) throw new PhxError('LOG_CORRUPT', `group ${group}: instance ${instance} is not in the log`);
    return entryOf(instance, body).value;
  }

  #serveFetch(group: number, effect: Effect & { type: 'serve_fetch' }): void {
    const { to, from, through } = effect;
    const key = `${group} ${to}`;
    if (this.#serving.has(key)) return;
    this.#serving.add(key);
    this.#options.log
      .readRange(group, from, through, LEARN_BYTES_MAX)
      .then((entries) => {
        if (this.#closed) return;
        const learned = entries.map(({ instance, body }) => entryOf(instance, body));
        this.#transport?.send(to, group, { type: 'learn', entries: learned });
        this.#schedule();
      })
      .catch((error: unknown) => {
        this.#options.logger.warn(
          `group ${group}: cannot serve instances from ${from} to replica ${to}: ${String(error)}`,
        );
      })
      .finally(() => this.#serving.delete(key));
  }
}

function commandsIn(value: Uint8Array): Command[] {
  return commandsOf(value).map(({ offset, length }) => ({ bytes: value.subarray(offset, offset + length), offset }));
}

/** The configured replicas are the first members of each group. */
function foundersOf(replicas: readonly Replica[]): Configuration {
  return foundedBy(
    replicas.map(({ id, host, paxos_port }) => ({
      id,
      role: 'voter',
      birth: '0'.repeat(16),
      host,
      port: paxos_port,
      site: '',
    })),
  );
}

function refusalError(reason: Refusal): PhxError {
  const code: ErrorCode = reason;
  const retryable = reason !== 'SIZE_TOO_LARGE' && reason !== 'MEMBERS_INVALID';
  return new PhxError(code, REFUSALS[reason], { retryable });
}
