/**
 * A cluster of the production protocol core over simulated clocks, network and disks. Two phases: first faults whose
 * rates are drawn from the seed, then everything heals and must converge. No value depends on anything but the seed.
 */
import { createHash, type Hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Group } from '../../src/ts/paxos/core/group.js';
import { type Configuration, foundedBy } from '../../src/ts/paxos/core/members.js';
import type { Member } from '../../src/ts/paxos/core/roster.js';
import {
  type CoreOptions,
  DEFAULT_CORE_OPTIONS,
  type Effect,
  type Input,
  type Message,
} from '../../src/ts/paxos/core/types.js';
import { Checker, Violation } from './checker.js';
import { SimDisk } from './disk.js';
import { Random } from './random.js';
import { Timeline } from './timeline.js';

export interface SimulationOptions {
  readonly seed: number;
  /** Length of the phase with faults. */
  readonly faults_ms: number;
  readonly trace?: (line: string) => void;
}

export interface SimulationResult {
  readonly seed: number;
  readonly trace_hash: string;
  readonly events: number;
  readonly proposed: number;
  readonly acknowledged: number;
  readonly reads: number;
  readonly reached: ReadonlyMap<string, number>;
}

const TICK_MS = 20;
const CONVERGE_MS = 60_000;
const PROPOSE_TIMEOUT_MS = 1_500;

/** Rates drawn from the seed. */
interface Faults {
  readonly drop: number;
  readonly duplicate: number;
  readonly delay: number;
  readonly delay_mean_ms: number;
  readonly latency_ms: number;
  readonly crash_mean_ms: number;
  readonly partition_mean_ms: number;
  readonly pause_mean_ms: number;
  readonly sleep_mean_ms: number;
  readonly transfer_mean_ms: number;
  /** Probabilities of a crash of the sender right after such a message, and of all after an acknowledgement. */
  readonly crash_after_promise: number;
  readonly crash_after_accepted: number;
  readonly crash_after_grant: number;
  readonly power_cut_after_acknowledgement: number;
  readonly propose_mean_ms: number;
  readonly lease_ms: number;
}

function memberOf(id: number): Omit<Member, 'role'> {
  return { id, birth: id.toString(16).padStart(16, '0'), host: '127.0.0.1', port: 5_000 + id, site: '' };
}

class Replica {
  readonly id: number;
  readonly disk: SimDisk;
  /** The replica's clock: true time times `rate` plus `offset`. */
  readonly rate: number;
  offset_ms: number;
  group: Group | null = null;
  incarnation = 0;
  paused_until_ms = 0;
  /** Since when the machine sleeps: its monotonic clock stands still. */
  asleep_since_ms: number | null = null;
  applied_through = 0;
  backlog: (() => void)[] = [];

  constructor(id: number, disk: SimDisk, rate: number, offset_ms: number) {
    this.id = id;
    this.disk = disk;
    this.rate = rate;
    this.offset_ms = offset_ms;
  }
}

export class Simulation {
  readonly #options: SimulationOptions;
  readonly #random: Random;
  readonly #timeline = new Timeline();
  readonly #checker: Checker;
  readonly #replicas: readonly Replica[];
  readonly #founders: Configuration;
  readonly #faults: Faults;
  readonly #core: CoreOptions;
  readonly #blocked = new Set<string>();
  readonly #hash: Hash = createHash('sha256');
  readonly #reached = new Map<string, number>();
  #healing = false;
  #proposals = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#checker = new Checker(() => this.#timeline.now_ms);
    const random = this.#random;
    this.#faults = {
      drop: random.chance(0.5) ? 0 : random.between(0, 0.2),
      duplicate: random.between(0, 0.1),
      delay: random.between(0, 0.1),
      delay_mean_ms: random.pick([100, 1_000]),
      latency_ms: random.pick([0.1, 0.5, 2, 20]),
      crash_mean_ms: random.between(1_000, 20_000),
      partition_mean_ms: random.between(1_000, 20_000),
      pause_mean_ms: random.between(1_000, 20_000),
      sleep_mean_ms: random.between(1_000, 20_000),
      transfer_mean_ms: random.pick([200, 500, 5_000]),
      crash_after_promise: random.pick([0, 0.1, 0.5]),
      crash_after_accepted: random.chance(0.5) ? 0 : random.between(0, 0.002),
      crash_after_grant: random.chance(0.5) ? 0 : random.between(0, 0.01),
      power_cut_after_acknowledgement: random.chance(0.5) ? 0 : random.between(0, 0.001),
      propose_mean_ms: random.pick([2, 10, 40]),
      lease_ms: random.pick([400, 400, 1_000]),
    };
    const lease_ms = this.#faults.lease_ms;
    this.#core = {
      ...DEFAULT_CORE_OPTIONS,
      lease_ms,
      lease_margin_ms: lease_ms / 20,
      heartbeat_ms: lease_ms / 5,
      window_max: random.pick([1, 4, 16]),
    };
    const count = random.pick([3, 3, 3, 5]);
    this.#founders = foundedBy(
      Array.from({ length: count }, (_, index) => ({ ...memberOf(index + 1), role: 'voter' })),
    );
    this.#replicas = Array.from({ length: count }, (_, index) => {
      const sync = { sync_mean_ms: random.pick([0.2, 1, 5]), stall: random.pick([0, 0, 0.01]) };
      const disk = new SimDisk(this.#timeline, random, sync);
      return new Replica(index + 1, disk, random.between(0.98, 1.02), random.between(0, 1e6));
    });
  }

  /** Runs both phases. Throws a Violation when something that must hold does not. */
  run(): SimulationResult {
    for (const replica of this.#replicas) this.#start(replica);
    this.#scheduleClients();
    this.#scheduleFaults();
    this.#timeline.run(this.#options.faults_ms);
    this.#heal();
    this.#converge();
    return {
      seed: this.#options.seed,
      trace_hash: this.#hash.digest('hex'),
      events: this.#timeline.events,
      proposed: this.#checker.proposed,
      acknowledged: this.#checker.acknowledged,
      reads: this.#checker.reads,
      reached: this.#reached,
    };
  }

  #start(replica: Replica): void {
    replica.applied_through = 0;
    const restored = replica.disk.restore(this.#founders, ({ instance, value }) =>
      this.#applied(replica, instance, value),
    );
    const { seed } = this.#options;
    const config = { group: 0, self: replica.id, options: this.#core, checksum: crc32, voting: true, seed };
    replica.group = new Group(config, restored, this.#clock(replica));
    replica.incarnation += 1;
    this.#trace(`${replica.id} starts: chosen ${restored.chosen_through}, ${restored.entries.length} above`);
    if (restored.entries.length > 0) this.#sometimes('restart with values not known to be chosen');
    this.#tick(replica, replica.incarnation);
  }

  #crash(replica: Replica): void {
    if (replica.group === null) return;
    if (replica.group.role === 'leader') this.#sometimes('a leader crashes');
    this.#trace(`${replica.id} crashes`);
    replica.group = null;
    replica.incarnation += 1;
    replica.backlog = [];
    replica.paused_until_ms = 0;
    replica.asleep_since_ms = null;
    replica.disk.crash();
  }

  #tick(replica: Replica, incarnation: number): void {
    if (replica.incarnation !== incarnation) return;
    this.#step(replica, { type: 'tick' });
    this.#timeline.after(TICK_MS * this.#random.between(0.9, 1.2), () => this.#tick(replica, incarnation));
  }

  #clock(replica: Replica): number {
    return (replica.asleep_since_ms ?? this.#timeline.now_ms) * replica.rate + replica.offset_ms;
  }

  /** Feeds a replica, or keeps the input until it runs again if it is paused. */
  #step(replica: Replica, input: Input): void {
    const { group } = replica;
    if (group === null) return;
    if (this.#timeline.now_ms < replica.paused_until_ms) {
      const { incarnation } = replica;
      if (input.type !== 'tick') {
        replica.backlog.push(() => {
          if (replica.incarnation === incarnation) this.#step(replica, input);
        });
      }
      return;
    }
    const roleBefore = group.role;
    const effects = group.step(this.#clock(replica), input);
    if (group.role !== roleBefore) {
      this.#trace(`${replica.id} becomes ${group.role} at ballot ${group.ballot}`);
      if (group.role === 'leader') this.#sometimes('an election is won');
    }
    const { incarnation } = replica;
    for (const effect of effects) {
      this.#perform(replica, group, effect);
      if (this.#crashesAfter(replica, effect)) break;
      if (replica.incarnation !== incarnation) break;
    }
    this.#checkMasters();
  }

  #perform(replica: Replica, group: Group, effect: Effect): void {
    const { incarnation } = replica;
    switch (effect.type) {
      case 'send':
        this.#send(replica.id, effect.to, effect.message);
        break;
      case 'append':
        replica.disk.append(effect.append, effect.writes, (append) => {
          if (replica.incarnation === incarnation) this.#step(replica, { type: 'durable', append });
        });
        break;
      case 'apply':
        this.#applied(replica, effect.instance, effect.value);
        for (const id of effect.proposals ?? []) this.#checker.acknowledge(id, effect.instance);
        break;
      case 'refuse':
        this.#sometimes(`refused: ${effect.reason}`);
        break;
      case 'members':
      case 'removed':
      case 'serve_snapshot':
        break;
      case 'transferred':
        this.#sometimes('the leadership is handed over');
        break;
      case 'transfer_refused':
        this.#sometimes(`no hand-over: ${effect.reason}`);
        break;
      case 'serve_fetch': {
        this.#sometimes('a gap is fetched');
        const entries = replica.disk.range(effect.from, effect.through, 100);
        this.#send(replica.id, effect.to, { type: 'learn', entries });
        break;
      }
    }
    if (effect.type === 'apply' && group.role === 'leader' && effect.proposals === null) {
      this.#sometimes('a leader applies a value of another leadership');
    }
  }

  /** A crash at the worst moment: something was just said that must not be forgotten. */
  #crashesAfter(replica: Replica, effect: Effect): boolean {
    if (this.#healing) return false;
    const { power_cut_after_acknowledgement } = this.#faults;
    if (effect.type === 'apply' && (effect.proposals?.length ?? 0) > 0) {
      if (!this.#random.chance(power_cut_after_acknowledgement)) return false;
      this.#sometimes('all crash after an acknowledgement');
      for (const each of this.#replicas) this.#crashFor(each, this.#random.wait(1_000));
      return true;
    }
    if (effect.type !== 'send') return false;
    const { type } = effect.message;
    if (!this.#random.chance(this.#crashProbability(type))) return false;
    this.#sometimes(`a crash after: ${type}`);
    this.#crashFor(replica, this.#random.wait(this.#random.pick([5, 1_000])));
    return true;
  }

  #crashProbability(said: Message['type']): number {
    switch (said) {
      case 'promise':
        return this.#faults.crash_after_promise;
      case 'accepted':
        return this.#faults.crash_after_accepted;
      case 'heartbeat_reply':
        return this.#faults.crash_after_grant;
      default:
        return 0;
    }
  }

  #applied(replica: Replica, instance: number, value: Uint8Array): void {
    this.#checker.applied(replica.id, instance, replica.applied_through, value);
    replica.applied_through = instance;
  }

  #send(from: number, to: number, message: Message): void {
    const random = this.#random;
    const { drop, duplicate, delay, delay_mean_ms, latency_ms } = this.#faults;
    if (this.#blocked.has(`${from} ${to}`)) return;
    if (!this.#healing && random.chance(drop)) return;
    const copies = !this.#healing && random.chance(duplicate) ? 2 : 1;
    // A request to take over that comes again in another term would break a lease.
    const stale = !this.#healing && message.type === 'take_over' ? 2 : 0;
    for (let copy = 0; copy < copies + stale; copy += 1) {
      const often = copy < copies ? delay : 1;
      const late = !this.#healing && random.chance(often) ? random.wait(delay_mean_ms) : 0;
      this.#timeline.after(latency_ms * random.between(0.5, 1.5) + late, () => {
        this.#trace(`${from} to ${to} ${message.type}`);
        const replica = this.#replicas.find(({ id }) => id === to);
        if (replica !== undefined) this.#step(replica, { type: 'message', from, message });
      });
    }
  }

  #checkMasters(): void {
    // Whoever sleeps serves nobody; what it believes when it wakes up is another matter.
    const masters = this.#replicas.filter(
      (replica) => replica.asleep_since_ms === null && replica.group?.isMaster(this.#clock(replica)) === true,
    );
    this.#checker.masters(masters.map(({ id }) => id));
    for (const { id, group } of masters) if (group !== null) this.#checker.read(id, group.applied_through);
  }

  #scheduleClients(): void {
    this.#timeline.after(this.#random.wait(this.#faults.propose_mean_ms), () => {
      const burst = this.#random.chance(0.05) ? 50 : 1;
      const replica = this.#random.pick(this.#replicas);
      for (let count = 0; count < burst; count += 1) this.#propose(replica);
      this.#step(replica, { type: 'flush' });
      this.#scheduleClients();
    });
  }

  #propose(replica: Replica): void {
    if (replica.group === null || replica.group.role !== 'leader') return;
    if (this.#timeline.now_ms < replica.paused_until_ms) return;
    this.#proposals += 1;
    const id = this.#proposals;
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, id, true);
    this.#checker.proposing(id);
    const deadline_ms = this.#clock(replica) + PROPOSE_TIMEOUT_MS;
    this.#step(replica, { type: 'propose', proposal: { id, parts: [bytes], bytes: 4, deadline_ms } });
  }

  #scheduleFaults(): void {
    const { crash_mean_ms, partition_mean_ms, pause_mean_ms, sleep_mean_ms, transfer_mean_ms } = this.#faults;
    this.#repeat(transfer_mean_ms, () => this.#transfer());
    this.#repeat(crash_mean_ms, () => this.#crashSome());
    this.#repeat(partition_mean_ms, () => this.#partition());
    this.#repeat(pause_mean_ms, () => this.#pause(this.#random.pick(this.#replicas)));
    this.#repeat(sleep_mean_ms, () => this.#sleep(this.#random.pick(this.#replicas)));
  }

  #repeat(mean_ms: number, act: () => void): void {
    this.#timeline.after(this.#random.wait(mean_ms), () => {
      if (this.#healing) return;
      act();
      this.#repeat(mean_ms, act);
    });
  }

  /** Asks the leader to hand over, mostly to whoever is best caught up. */
  #transfer(): void {
    const leader = this.#replicas.find(({ group }) => group?.role === 'leader');
    if (leader === undefined) return;
    const to = this.#random.chance(0.7) ? null : this.#random.pick(this.#replicas).id;
    this.#step(leader, { type: 'transfer', to });
  }

  #crashSome(): void {
    const all = this.#random.chance(0.1);
    if (all) this.#sometimes('all crash at once');
    for (const replica of all ? this.#replicas : [this.#random.pick(this.#replicas)]) {
      this.#crashFor(replica, this.#random.wait(1_000));
    }
  }

  #crashFor(replica: Replica, duration_ms: number): void {
    if (replica.group === null) return;
    this.#crash(replica);
    this.#timeline.after(duration_ms, () => {
      if (replica.group === null) this.#start(replica);
    });
  }

  #partition(): void {
    this.#blocked.clear();
    if (this.#random.chance(0.4)) return;
    const leader = this.#replicas.find(({ group }) => group?.role === 'leader');
    const kind = leader === undefined ? 'any' : this.#random.pick(['silence', 'divide', 'any', 'any'] as const);
    if (leader !== undefined && kind === 'silence') this.#silence(leader);
    if (leader !== undefined && kind === 'divide') this.#divide(leader);
    if (kind === 'any') {
      for (const from of this.#replicas) {
        for (const to of this.#replicas) {
          if (from !== to && this.#random.chance(0.4)) this.#blocked.add(`${from.id} ${to.id}`);
        }
      }
    }
    this.#trace(`blocked: ${[...this.#blocked].join(', ')}`);
  }

  /** Nobody hears the leader any more, and it hears one of the others: its lease ends, and it does not know why. */
  #silence(leader: Replica): void {
    const others = this.#replicas.filter(({ id }) => id !== leader.id);
    const heard = this.#random.pick(others);
    for (const { id } of others) {
      this.#blocked.add(`${leader.id} ${id}`);
      if (id !== heard.id) this.#blocked.add(`${id} ${leader.id}`);
    }
    this.#sometimes('a leader is silenced');
  }

  /** One of the others and the leader do not hear each other; both hear the rest. */
  #divide(leader: Replica): void {
    const { id } = this.#random.pick(this.#replicas.filter((replica) => replica.id !== leader.id));
    this.#blocked.add(`${leader.id} ${id}`).add(`${id} ${leader.id}`);
    this.#sometimes('a leader is divided from another replica');
  }

  #pause(replica: Replica): void {
    const length_ms = this.#random.wait(500);
    replica.paused_until_ms = this.#timeline.now_ms + length_ms;
    this.#trace(`${replica.id} pauses for ${length_ms.toFixed(0)} ms`);
    if (replica.group?.isMaster(this.#clock(replica)) === true) this.#sometimes('a master is paused');
    this.#timeline.after(length_ms, () => this.#resume(replica));
  }

  /** The whole machine is suspended: unlike in a pause, the monotonic clock does not see it. */
  #sleep(replica: Replica): void {
    if (replica.group === null || replica.asleep_since_ms !== null) return;
    if (replica.group.isMaster(this.#clock(replica))) this.#sometimes('the machine of a master sleeps');
    replica.asleep_since_ms = this.#timeline.now_ms;
    this.#pause(replica);
  }

  #resume(replica: Replica): void {
    const { now_ms } = this.#timeline;
    if (now_ms < replica.paused_until_ms) return;
    if (replica.asleep_since_ms !== null) {
      replica.offset_ms -= (now_ms - replica.asleep_since_ms) * replica.rate;
      replica.asleep_since_ms = null;
      this.#step(replica, { type: 'clock_jump' });
    }
    const backlog = replica.backlog;
    replica.backlog = [];
    for (const run of backlog) run();
  }

  #heal(): void {
    this.#healing = true;
    this.#blocked.clear();
    this.#trace('healing');
    for (const replica of this.#replicas) {
      replica.paused_until_ms = 0;
      this.#resume(replica);
      if (replica.group === null) this.#start(replica);
    }
  }

  /** Everybody must apply the same, and new proposals must go through. */
  #converge(): void {
    const healed = this.#checker.acknowledged;
    const until_ms = this.#timeline.now_ms + CONVERGE_MS;
    const converged = (): boolean => {
      const [first, ...rest] = this.#replicas.map(({ applied_through }) => applied_through);
      const equal = rest.every((applied) => applied === first);
      const progress = this.#checker.acknowledged > healed;
      return (
        equal && progress && this.#replicas.some((replica) => replica.group?.isMaster(this.#clock(replica)) === true)
      );
    };
    this.#timeline.run(until_ms, converged);
    if (!converged()) {
      const states = this.#replicas.map(({ id, group }) => `${id}: ${group?.role} applied ${group?.applied_through}`);
      throw new Violation(this.#timeline.now_ms, `no convergence within ${CONVERGE_MS} ms (${states.join('; ')})`);
    }
    this.#checker.finish(Math.min(...this.#replicas.map(({ applied_through }) => applied_through)));
  }

  #sometimes(name: string): void {
    this.#reached.set(name, (this.#reached.get(name) ?? 0) + 1);
  }

  #trace(line: string): void {
    const text = `${this.#timeline.now_ms.toFixed(3)} ${line}`;
    this.#hash.update(text);
    this.#options.trace?.(text);
  }
}
