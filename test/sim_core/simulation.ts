/**
 * A cluster of the production protocol core over simulated clocks, network and disks. Two phases: first faults whose
 * rates are drawn from the seed, then everything heals and must converge. No value depends on anything but the seed.
 */
import { createHash, type Hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Group } from '../../src/ts/paxos/core/group.js';
import { type Configuration, foundedBy } from '../../src/ts/paxos/core/members.js';
import type { CoreOptions, Effect, Input, Message } from '../../src/ts/paxos/core/types.js';
import { Random } from '../sim/random.js';
import { Census } from './census.js';
import { Checker, proposalOf, Violation } from './checker.js';
import { SimDisk } from './disk.js';
import { arrivals, coreOptions, crashProbability, drawDiskFaults, drawFaults, type Faults } from './faults.js';
import { Operator } from './operator.js';
import type { SimulationOptions, SimulationResult } from './outcome.js';
import { Partitions } from './partitions.js';
import { memberOf, Replica } from './replica.js';
import { Timeline } from './timeline.js';

const TICK_MS = 20;
const CONVERGE_MS = 60_000;
const PROPOSE_TIMEOUT_MS = 1_500;

export class Simulation {
  readonly #options: SimulationOptions;
  readonly #random: Random;
  readonly #timeline = new Timeline();
  readonly #checker: Checker;
  readonly #census = new Census();
  readonly #operator: Operator;
  readonly #founders: Configuration;
  readonly #faults: Faults;
  readonly #core: CoreOptions;
  readonly #partitions: Partitions;
  readonly #hash: Hash = createHash('sha256');
  readonly #reached = new Map<string, number>();
  #healing = false;
  #proposals = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#checker = new Checker(() => this.#timeline.now_ms);
    const random = this.#random;
    this.#faults = drawFaults(random);
    this.#core = coreOptions(this.#faults, random);
    const count = random.pick([3, 3, 3, 5]);
    this.#founders = foundedBy(
      Array.from({ length: count }, (_, index) => ({ ...memberOf(index + 1), role: 'voter' })),
    );
    this.#operator = new Operator(random, this.#faults.wipe_mean_ms === Number.POSITIVE_INFINITY ? 2 : 3, (id) =>
      this.#recruit(id),
    );
    this.#partitions = new Partitions(random);
  }

  /** Runs both phases. Throws a Violation when something that must hold does not. */
  run(): SimulationResult {
    for (const { id } of this.#founders.members) this.#recruit(id);
    this.#scheduleClients();
    this.#scheduleFaults();
    this.#timeline.run(this.#options.faults_ms);
    this.#heal();
    this.#converge();
    return {
      seed: this.#options.seed,
      trace_hash: this.#hash.digest('hex'),
      events: this.#timeline.events,
      ...this.#checker.counts,
      reached: this.#reached,
    };
  }

  #recruit(id: number): Replica {
    const disk = new SimDisk(this.#timeline, this.#random, drawDiskFaults(this.#random), this.#founders);
    const replica = new Replica(id, disk, this.#random.between(0.98, 1.02), this.#random.between(0, 1e6));
    this.#census.replicas.push(replica);
    this.#start(replica);
    return replica;
  }

  #start(replica: Replica): void {
    this.#spoil(replica);
    replica.applied_through = replica.disk.base.through;
    const restored = replica.disk.restore(({ instance, value }) => this.#applied(replica, instance, value));
    const { seed } = this.#options;
    const chain = replica.corrupted ? (restored.chain ^ 1) >>> 0 : restored.chain;
    const config = { group: 0, self: replica.id, options: this.#core, checksum: crc32, voting: !replica.wiped, seed };
    replica.group = new Group(config, { ...restored, chain }, this.#clock(replica));
    replica.incarnation += 1;
    this.#trace(`${replica.id} starts: chosen ${restored.chosen_through}, ${restored.entries.length} above`);
    if (restored.entries.length > 0) this.#sometimes('restart with values not known to be chosen');
    this.#tick(replica, replica.incarnation);
  }

  /** What a restart may find: damaged records, or one that reads wrongly. One replica at a time: the others have copies. */
  #spoil(replica: Replica): void {
    const { damage, corruption } = this.#faults;
    if (this.#healing || replica.incarnation === 0 || !this.#census.sparesOne) return;
    if (this.#random.chance(damage) && replica.disk.damage() > 0) {
      replica.damaged = true;
      this.#sometimes('a restart finds damaged records');
    } else if (this.#random.chance(corruption)) {
      this.#sometimes('a restart reads a wrong value');
      replica.corrupted = true;
    }
  }

  /** The worst moment: the damaged replica and one that never got the values are left to elect without the leader. */
  #damageAtWorst(): void {
    const { leader, exposed } = this.#census;
    if (leader === undefined || exposed === null) return;
    const { ahead, behind } = exposed;
    this.#crash(ahead);
    ahead.damaged = ahead.disk.damage(behind) > 0;
    if (ahead.damaged) this.#sometimes('values that others lack are damaged');
    this.#partitions.between(this.#census.living, new Set([leader.id]));
    this.#timeline.after(5, () => this.#revive(ahead));
    this.#timeline.after(this.#random.between(800, 2_000), () => this.#partitions.heal());
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
    const effects = this.#effects(replica, group, input);
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

  /** The effects of a step. A replica that finds out that it has applied something wrong is repaired and comes back. */
  #effects(replica: Replica, group: Group, input: Input): Effect[] {
    try {
      return group.step(this.#clock(replica), input);
    } catch (error) {
      if (!this.#census.mayStop(replica, error)) throw error;
      this.#sometimes('a replica that diverged stops');
      for (const each of this.#census.living.filter(({ corrupted }) => corrupted)) {
        each.corrupted = false;
        this.#crashFor(each, this.#random.wait(1_000));
      }
      this.#crashFor(replica, this.#random.wait(1_000));
      return [];
    }
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
        if (effect.proposal !== null) this.#sometimes('a change of the members is answered');
        this.#partitionMembers(replica);
        break;
      case 'removed':
        this.#retire(replica);
        break;
      case 'serve_snapshot':
        this.#sendSnapshot(replica, effect.to);
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
      for (const each of this.#census.replicas) this.#crashFor(each, this.#random.wait(1_000));
      return true;
    }
    if (effect.type !== 'send') return false;
    const { type } = effect.message;
    if (!this.#random.chance(crashProbability(this.#faults, type))) return false;
    this.#sometimes(`a crash after: ${type}`);
    this.#crashFor(replica, this.#random.wait(this.#random.pick([5, 1_000])));
    return true;
  }

  #applied(replica: Replica, instance: number, value: Uint8Array): void {
    this.#checker.applied(replica.id, instance, replica.applied_through, value);
    replica.applied_through = instance;
  }

  #send(from: number, to: number, message: Message): void {
    if (this.#partitions.blocks(from, to)) return;
    for (const delay_ms of arrivals(this.#faults, this.#random, message.type, this.#healing)) {
      this.#timeline.after(delay_ms, () => {
        this.#trace(`${from} to ${to} ${message.type}`);
        const replica = this.#census.replicas.find(({ id }) => id === to);
        if (replica !== undefined) this.#step(replica, { type: 'message', from, message });
      });
    }
  }

  #sendSnapshot(from: Replica, to: number): void {
    const snapshot = from.disk.base;
    const delay_ms = this.#random.wait(this.#random.pick([5, 200]));
    this.#timeline.after(delay_ms, () => {
      const replica = this.#census.replicas.find(({ id }) => id === to);
      const { through } = snapshot;
      if (replica?.group === null || replica === undefined || through <= replica.group.applied_through) return;
      if (this.#timeline.now_ms < replica.paused_until_ms || this.#partitions.blocks(from.id, to)) return;
      this.#sometimes('a snapshot is installed');
      this.#trace(`${to} gets a snapshot through ${through}`);
      replica.disk.rebase(snapshot);
      replica.applied_through = through;
      replica.corrupted = false;
      this.#step(replica, { type: 'snapshot_installed', snapshot });
    });
  }

  /** Told to be needed no more: it is thrown away, with its disk. */
  #retire(replica: Replica): void {
    this.#sometimes('a removed replica is thrown away');
    this.#trace(`${replica.id} is thrown away`);
    replica.retired = true;
    this.#crash(replica);
  }

  #checkMasters(): void {
    const masters = this.#census.masters((replica) => this.#clock(replica));
    this.#checker.masters(masters.map(({ id }) => id));
    for (const { id, group } of masters) if (group !== null) this.#checker.read(id, group.applied_through);
  }

  #scheduleClients(): void {
    this.#timeline.after(this.#random.wait(this.#faults.propose_mean_ms), () => {
      const burst = this.#random.chance(0.05) ? 50 : 1;
      const replica = this.#random.pick(this.#census.living);
      for (let count = 0; count < burst; count += 1) this.#propose(replica);
      this.#step(replica, { type: 'flush' });
      this.#scheduleClients();
    });
  }

  #propose(replica: Replica): void {
    if (replica.group === null || replica.group.role !== 'leader') return;
    if (this.#timeline.now_ms < replica.paused_until_ms) return;
    this.#proposals += 1;
    this.#checker.proposing(this.#proposals);
    const deadline_ms = this.#clock(replica) + PROPOSE_TIMEOUT_MS;
    this.#step(replica, { type: 'propose', proposal: proposalOf(this.#proposals, deadline_ms) });
  }

  #scheduleFaults(): void {
    this.#repeat(this.#faults.damage_mean_ms, () => this.#damageAtWorst());
    this.#repeat(this.#faults.change_mean_ms, () => this.#changeMembers());
    this.#repeat(this.#faults.checkpoint_mean_ms, () => this.#checkpoint(this.#random.pick(this.#census.living)));
    this.#repeat(this.#faults.wipe_mean_ms, () => this.#wipe(this.#random.pick(this.#census.living)));
    this.#repeat(this.#faults.transfer_mean_ms, () => this.#transfer());
    this.#repeat(this.#faults.crash_mean_ms, () => this.#crashSome());
    this.#repeat(this.#faults.partition_mean_ms, () => this.#partition());
    this.#repeat(this.#faults.pause_mean_ms, () => this.#pause(this.#random.pick(this.#census.living)));
    this.#repeat(this.#faults.sleep_mean_ms, () => this.#sleep(this.#random.pick(this.#census.living)));
  }

  #repeat(mean_ms: number, act: () => void): void {
    if (!Number.isFinite(mean_ms)) return;
    this.#timeline.after(this.#random.wait(mean_ms), () => {
      if (this.#healing) return;
      act();
      this.#repeat(mean_ms, act);
    });
  }

  /** Asks the leader to hand over, mostly to whoever is best caught up. */
  #transfer(): void {
    const leader = this.#census.leader;
    if (leader === undefined) return;
    const to = this.#random.chance(0.7) ? null : this.#random.pick(this.#census.living).id;
    this.#step(leader, { type: 'transfer', to });
  }

  /** Asks the leader for other members, sometimes for two changes at once. */
  #changeMembers(): void {
    for (let count = this.#random.chance(0.1) ? 2 : 1; count > 0; count -= 1) {
      const leader = this.#census.leader;
      const newest = leader?.group?.configurations.at(-1);
      const change = newest === undefined ? null : this.#operator.next(newest, this.#census.replicas);
      if (leader === undefined || change === null) return;
      this.#proposals += 1;
      const deadline_ms = this.#clock(leader) + PROPOSE_TIMEOUT_MS;
      this.#trace(`${leader.id} is asked to ${change.type}`);
      this.#missSome();
      this.#step(leader, { type: 'change_members', id: this.#proposals, deadline_ms, change });
    }
  }

  /** Somebody misses the next messages, so that it has a gap and does not know of the change when it has what follows. */
  #missSome(): void {
    if (this.#healing || !this.#random.chance(this.#faults.partition_after_change)) return;
    const { id } = this.#random.pick(this.#census.living);
    this.#partitions.between(this.#census.living, new Set([id]));
    this.#timeline.after(this.#random.wait(this.#faults.latency_ms * 4), () => this.#partitions.heal());
  }

  /** Deletes what was applied from the log. */
  #checkpoint(replica: Replica): void {
    const { group } = replica;
    if (group === null || this.#timeline.now_ms < replica.paused_until_ms || replica.corrupted) return;
    const { applied_through: through, chain, configurations } = group;
    if (through !== replica.applied_through) return;
    replica.disk.rebase({ through, chain, configurations, retained_from: through + 1 });
    this.#step(replica, { type: 'retained', from: through + 1 });
  }

  /** The disk is lost. The replica must not vote any more: it does not know what it said. */
  #wipe(replica: Replica): void {
    const newest = this.#census.leader?.group?.configurations.at(-1);
    const member = newest?.members.some(({ id }) => id === replica.id) === true;
    if (!member || replica.group === null || !this.#census.sparesOne) return;
    this.#sometimes('a disk is lost');
    this.#trace(`${replica.id} loses its disk`);
    this.#crash(replica);
    replica.wiped = true;
    replica.disk.wipe(this.#founders);
    this.#timeline.after(this.#random.wait(300), () => this.#revive(replica));
  }

  #crashSome(): void {
    const all = this.#random.chance(0.1);
    if (all) this.#sometimes('all crash at once');
    for (const replica of all ? this.#census.living : [this.#random.pick(this.#census.living)]) {
      this.#crashFor(replica, this.#random.wait(1_000));
    }
  }

  #crashFor(replica: Replica, duration_ms: number): void {
    if (replica.group === null) return;
    this.#crash(replica);
    this.#timeline.after(duration_ms, () => this.#revive(replica));
  }

  #revive(replica: Replica): void {
    if (replica.group === null && !replica.retired) this.#start(replica);
  }

  #partition(): void {
    this.#partitions.draw(this.#census.living, this.#census.leader, (name) => this.#sometimes(name));
    this.#trace(`blocked: ${this.#partitions}`);
  }

  /** While a change is on its way: the leader and those that go, or that come, here; all others there, for a while. */
  #partitionMembers(replica: Replica): void {
    if (this.#healing || !this.#random.chance(this.#faults.partition_after_change)) return;
    const some = this.#census.sideOf(replica, this.#random.pick(['leaving', 'coming'] as const));
    this.#timeline.after(this.#random.wait(this.#faults.latency_ms * 4), () => {
      if (this.#healing) return;
      this.#sometimes('old members are cut off from new ones');
      this.#partitions.between(this.#census.living, some);
      this.#timeline.after(this.#random.between(300, 1_500), () => this.#partitions.heal());
      this.#trace(`blocked: ${this.#partitions}`);
    });
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
    this.#partitions.heal();
    this.#trace('healing');
    for (const replica of this.#census.replicas) {
      replica.paused_until_ms = 0;
      this.#resume(replica);
      this.#revive(replica);
    }
    this.#repair();
  }

  /** Replaces those whose disk is lost. */
  #repair(): void {
    if (this.#census.members.some(({ wiped }) => wiped)) this.#changeMembers();
    this.#timeline.after(500, () => this.#repair());
  }

  /** Everybody must apply the same, and new proposals must go through. */
  #converge(): void {
    const healed = this.#checker.acknowledged;
    const until_ms = this.#timeline.now_ms + CONVERGE_MS;
    const converged = (): boolean =>
      this.#census.isWhole &&
      this.#checker.acknowledged > healed &&
      this.#census.members.some((replica) => replica.group?.isMaster(this.#clock(replica)) === true);
    this.#timeline.run(until_ms, converged);
    if (!converged()) {
      throw new Violation(this.#timeline.now_ms, `no convergence within ${CONVERGE_MS} ms (${this.#census})`);
    }
    this.#checker.finish(Math.min(...this.#census.members.map(({ applied_through }) => applied_through)));
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
