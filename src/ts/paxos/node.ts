/**
 * The shell around the protocol core: performs its effects on the log, the replica connections and the state machine,
 * and feeds it with what comes back. All work of one turn of the event loop leaves together: one append to the log, one
 * frame to each peer.
 */
import { assert, PhxError } from '../errors.js';
import { DEFAULT_CHECKPOINT_OPTIONS } from './checkpointer.js';
import { ClockWatch } from './clock_watch.js';
import type { PeerMessage } from './codec.js';
import { foundersOf } from './configurations.js';
import type { Effect, Input, MembersChange } from './core/types.js';
import { Enrolment } from './enrolment.js';
import { Exchange } from './exchange.js';
import { FetchService } from './fetch_service.js';
import { type GroupStatus, groupStatus } from './group_status.js';
import { HandOvers } from './hand_over.js';
import { LogWriter } from './log_writer.js';
import { MastersWatch } from './masters_watch.js';
import { DEFAULT_LIMITS, type PaxosNodeOptions } from './node_options.js';
import { NODE_GROUP } from './node_records.js';
import { checkPlaces, NO_ID, placeOf, unsettledSentence } from './places.js';
import { recordOf } from './records.js';
import type { Applied, Mastership, Replica, ReplicatedLog } from './replicated_log.js';
import { commandsIn, RestoredGroups } from './restored_groups.js';
import { PROCESS_RUNTIME, type Runtime } from './runtime.js';
import { isSnapshotMessage } from './snapshot_messages.js';
import { Snapshots } from './snapshots.js';
import { Succession } from './succession.js';
import type { TransportStats } from './transport.js';
import { Values } from './values.js';
import { VotePosition } from './vote_position.js';
import { refusalError, Waiters } from './waiters.js';

const TICK_MS = 20;
export class PaxosNode implements ReplicatedLog {
  readonly self: number;
  readonly replicas: readonly Replica[];
  readonly groups: number;
  readonly #options: PaxosNodeOptions;
  readonly #runtime: Runtime;
  readonly #restored: RestoredGroups;
  readonly #values: Values;
  readonly #waiters = new Waiters();
  readonly #dirty = new Set<number>();
  readonly #fetches: FetchService;
  readonly #hand_overs = new HandOvers();
  readonly #masters: MastersWatch;
  readonly #clocks: ClockWatch;
  readonly #writer: LogWriter;
  readonly #snapshots: Snapshots;
  readonly #position: VotePosition;
  readonly #enrolment: Enrolment;
  readonly #exchange: Exchange;
  readonly #succession: Succession;
  readonly #stopTicks: () => void;
  #scheduled = false;
  #closing: Promise<void> | null = null;

  private constructor(options: PaxosNodeOptions, runtime: Runtime, restored: RestoredGroups) {
    const { groups, checkpoints } = restored;
    const { log, limits = DEFAULT_LIMITS } = options;
    this.#options = options;
    this.#runtime = runtime;
    this.#values = new Values(log, limits.value_cache_bytes_max);
    this.#restored = restored;
    this.self = options.identity.replica;
    this.replicas = options.replicas;
    this.groups = groups.length;
    this.#masters = new MastersWatch(groups.length);
    this.#clocks = new ClockWatch(runtime, options.core.lease_margin_ms, options.logger);
    this.#fetches = new FetchService({
      log,
      checkpoints,
      learn_bytes_max: limits.learn_bytes_max,
      logger: options.logger,
      answer: (to, group, message) => this.#answer(to, group, message),
      onMissing: (to, group) => this.#offer(to, group),
    });
    this.#writer = new LogWriter(
      log,
      (group, append) => this.#onDurable(group, append),
      (error) => {
        this.#enrolment.close(error);
        options.onFailure(error);
      },
      limits.portion_bytes_max,
    );
    this.#snapshots = new Snapshots({
      log,
      restored,
      place: this.self,
      logger: options.logger,
      part_bytes_max: limits.part_bytes_max,
      monotonic_ms: () => runtime.monotonic_ms(),
      send: (to, group, message) => this.#answer(to, group, message),
      settle: (group) => {
        // What was proposed may still be chosen; here nobody will know.
        this.#waiters.rejectGroup(group, refusalError('PROPOSE_TIMEOUT'));
        return this.#writer.settled(group);
      },
      goOn: (group, inputs) => this.#goOn(group, inputs),
      onFailure: (error) => this.#fail(error),
    });
    this.#position = new VotePosition(log, restored.chosen_through);
    this.#enrolment = this.#makeEnrolment();
    this.#exchange = new Exchange({
      groups,
      enrolment: this.#enrolment,
      logger: options.logger,
      standsStill: (group) => this.#snapshots.standsStill(group),
      waiting_bytes: () => this.#writer.waiting_bytes,
      take: (group, from, message) => {
        if (isSnapshotMessage(message)) this.#orDie(() => this.#snapshots.receive(from, group, message));
        else this.#step(group, { type: 'message', from, message });
      },
    });
    this.#succession = new Succession({
      groups,
      logger: options.logger,
      joiners: () => this.#enrolment.joiners,
      change: (group, change) => this.#changeMembers(group, change),
    });
    this.#stopTicks = runtime.every(TICK_MS, () => this.#tick());
  }

  /**
   * Replays the log into the state machine, records who this replica is, then listens. It takes part in its groups once it
   * may vote. Throws LOG_CORRUPT, CONFIG, and what the log fails with.
   */
  static async start(options: PaxosNodeOptions): Promise<PaxosNode> {
    const runtime = options.runtime ?? PROCESS_RUNTIME;
    const { identity, log, stateMachine, core } = options;
    checkPlaces(options.replicas.length);
    const restored = await RestoredGroups.read({
      log,
      groups: identity.groups,
      founders: foundersOf(options.replicas),
      stateMachine,
      core,
      checkpoints: options.checkpoints ?? DEFAULT_CHECKPOINT_OPTIONS,
      runtime,
    });
    const node = new PaxosNode(options, runtime, restored);
    try {
      await node.#enrolment.start();
      const connections = await runtime.connect({
        identity,
        replicas: options.replicas,
        listen_host: options.listen_host,
        logger: options.logger,
        introductions: node.#enrolment,
        receive: (from, received) => {
          if (!node.#closed) node.#exchange.receive(from, received);
        },
      });
      node.#exchange.open(connections);
    } catch (error) {
      await node.close();
      throw error;
    }
    node.#enrolment.listening();
    return node;
  }

  mastership(group: number): Mastership {
    if (this.#closed || !this.#takesPart(group)) return { role: 'unknown' };
    this.#watchClock();
    const core = this.#restored.at(group);
    if (core.isMaster(this.#runtime.monotonic_ms())) return { role: 'master' };
    const { leader } = core;
    if (leader === null || placeOf(leader) === this.self) return { role: 'unknown' };
    return { role: 'follower', master: placeOf(leader) };
  }

  propose(group: number, command: readonly Uint8Array[]): Promise<Applied> {
    if (this.#closed) return Promise.reject(new PhxError('CLOSED', 'this node is closed'));
    if (!this.#votesIn(group)) return Promise.reject(refusalError('NO_MASTER'));
    const bytes = command.reduce((sum, part) => sum + part.length, 0);
    const { id, applied } = this.#waiters.add(group);
    this.#step(group, { type: 'propose', proposal: { id, parts: command, bytes, deadline_ms: this.#deadline_ms } });
    return applied;
  }

  get #deadline_ms(): number {
    return this.#runtime.monotonic_ms() + this.#options.propose_timeout_ms;
  }

  #changeMembers(group: number, change: MembersChange): Promise<Applied> {
    if (!this.#votesIn(group)) return Promise.reject(refusalError('NO_MASTER'));
    const { id, applied } = this.#waiters.add(group);
    this.#step(group, { type: 'change_members', id, deadline_ms: this.#deadline_ms, change });
    return applied;
  }

  value(group: number, instance: number): Uint8Array | Promise<Uint8Array> {
    return this.#values.get(group, instance);
  }

  appliedThrough(group: number): number {
    return this.#restored.at(group).applied_through;
  }

  /**
   * Makes the checkpoints that are due and truncates the log below them; resolves to their number. To be called from time
   * to time, after the state machine let go of what nobody needs.
   */
  async checkpoint(): Promise<number> {
    try {
      const made = await this.#restored.checkpointer.run();
      for (let group = 0; group < this.groups; group += 1) {
        const from = this.#restored.checkpoints.record(group)?.first_retained ?? 1;
        this.#step(group, { type: 'retained', from });
      }
      return made;
    } catch (error) {
      this.#fail(error);
      return 0;
    }
  }

  /**
   * Hands the leadership of all groups that this replica leads over to others, each to the one that is best caught up.
   * Resolves when these lead, or when the time of a lease is over: to the number of groups that it led and others lead now.
   */
  async handOver(): Promise<number> {
    const stop = this.#runtime.after(this.#options.core.lease_ms, () => this.#hand_overs.giveUp());
    const handed_over = await this.#hand_overs.all(this.#restored.groups, (group) => {
      const asked = !this.#closed && this.#votesIn(group);
      if (asked) this.#step(group, { type: 'transfer', to: null });
      return asked;
    });
    stop();
    return handed_over;
  }

  /** For metrics and the status page. */
  status(group: number): GroupStatus {
    return groupStatus(
      this.#restored.at(group),
      this.#restored.checkpoints.record(group),
      this.#snapshots.standsStill(group),
    );
  }

  /** Whether it takes part in votes. */
  get votes(): boolean {
    return this.#enrolment.may_vote;
  }

  /**
   * What keeps this replica from voting, or from being worth as much as any other, for people; empty if nothing does: then
   * another replica may lose its disk.
   */
  get obstacle(): string {
    return this.#enrolment.obstacle || unsettledSentence(this.#restored.groups);
  }

  transportStats(): TransportStats {
    return this.#exchange.stats();
  }

  /** Leaves the protocol: waiting proposals reject with CLOSED. The log stays open, it belongs to the caller. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stopTicks();
    this.#writer.close();
    this.#restored.checkpointer.close();
    this.#fetches.close();
    this.#snapshots.close();
    this.#hand_overs.giveUp();
    const closed = new PhxError('CLOSED', 'this node is closed');
    this.#enrolment.close(closed);
    await this.#exchange.close();
    this.#waiters.rejectAll(closed);
  }

  #makeEnrolment(): Enrolment {
    const { identity, replicas, log, logger, form_with_majority } = this.#options;
    return new Enrolment({
      place: identity.replica,
      replicas,
      log,
      logger,
      position: this.#position,
      runtime: this.#runtime,
      form_with_majority: form_with_majority ?? false,
      write: (record, records) => {
        this.#writer.add(NODE_GROUP, record, records);
        this.#writer.flush();
      },
      onReintroduce: () => this.#exchange.reintroduce(),
      onTell: () => this.#exchange.tell(),
      onMayVote: () => {
        this.#stepAll((group) => ({ type: 'named', self: this.#enrolment.idIn(group) }));
        this.#stepAll(() => ({ type: 'voting', allowed: true }));
        this.#tick();
      },
      onHalt: () => {
        this.#stepAll(() => ({ type: 'voting', allowed: false }));
        this.#stepAll(() => ({ type: 'named', self: NO_ID }));
        this.#dirty.clear();
        this.#hand_overs.giveUp();
        // What was proposed may still be chosen; here nobody will know.
        this.#waiters.rejectAll(refusalError('PROPOSE_TIMEOUT'));
      },
    });
  }

  #onDurable(group: number, append: number): void {
    if (group === NODE_GROUP) {
      this.#orDie(() => this.#enrolment.durable(append));
      return;
    }
    this.#position.touch(group);
    // Also while the groups stand still: what was written before counts when they go on, and nobody says it again.
    this.#stepGroup(group, { type: 'durable', append });
  }

  get #closed(): boolean {
    return this.#closing !== null;
  }

  #takesPart(group: number): boolean {
    return this.#enrolment.takes_part && !this.#snapshots.standsStill(group);
  }

  #votesIn(group: number): boolean {
    return this.#enrolment.may_vote && !this.#snapshots.standsStill(group);
  }

  /** Steps a group; while nobody knows whether this replica may vote, or while it waits for its state, it stands still. */
  #step(group: number, input: Input): void {
    if (this.#enrolment.takes_part) this.#stepGroup(group, input);
  }

  #stepAll(inputOf: (group: number) => Input): void {
    for (let group = 0; group < this.groups; group += 1) this.#stepGroup(group, inputOf(group));
  }

  #stepGroup(group: number, input: Input): void {
    this.#orDie(() => {
      if (this.#snapshots.standsStill(group)) this.#snapshots.missed(group, input);
      else this.#take(group, input);
    });
  }

  #take(group: number, input: Input): void {
    const core = this.#restored.at(group);
    const effects = core.step(this.#runtime.monotonic_ms(), input);
    for (const effect of effects) this.#perform(group, effect);
    this.#hand_overs.look(group, core);
    if (input.type === 'propose') this.#dirty.add(group);
    if (effects.length > 0 || input.type === 'propose') this.#schedule();
  }

  /** A group has its state: its core hears of that, and of what it missed. */
  #goOn(group: number, inputs: readonly Input[]): void {
    this.#position.touch(group);
    for (const input of inputs) this.#orDie(() => this.#take(group, input));
  }

  /** A step that fails half-way leaves core and log apart: from then on nothing may leave this replica. */
  #orDie(work: () => void): void {
    if (this.#closed) return;
    try {
      work();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (this.#closed) return;
    void this.close();
    this.#options.onFailure(error instanceof Error ? error : new Error(String(error)));
  }

  /** Ends the turn once everything that is ready now was taken in. */
  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.#runtime.atEndOfTurn(() => this.#orDie(() => this.#endTurn()));
  }

  #endTurn(): void {
    for (const group of this.#dirty) {
      if (!this.#snapshots.standsStill(group)) this.#take(group, { type: 'flush' });
    }
    this.#dirty.clear();
    this.#scheduled = false;
    // Values travel to the peers while they are written here.
    this.#exchange.flush();
    this.#writer.flush();
  }

  #perform(group: number, effect: Effect): void {
    switch (effect.type) {
      case 'send':
        this.#exchange.send(group, effect.to, effect.message);
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
        this.#waiters.refuse(effect.proposal, effect.reason);
        break;
      case 'serve_fetch':
        this.#fetches.serve(group, effect);
        break;
      case 'serve_snapshot':
        this.#offer(effect.to, group);
        break;
      case 'transfer_refused':
        this.#hand_overs.refused(group);
        break;
      case 'transferred':
        this.#options.logger.info(`group ${group}: handed the leadership over to replica ${placeOf(effect.to)}`);
        break;
      case 'members':
        if (effect.proposal !== null)
          this.#waiters.resolve(effect.proposal, { instance: effect.configuration.chosen_at, result: null });
        break;
      case 'removed':
        this.#leave();
        break;
    }
  }

  /** Others go on with another member in this place. Not in the midst of a step: all groups lose their votes. */
  #leave(): void {
    const { birth } = this.#enrolment;
    this.#runtime.atEndOfTurn(() => this.#orDie(() => this.#enrolment.replaced(birth)));
  }

  #apply(group: number, effect: Effect & { type: 'apply' }): void {
    const { instance, value, proposals } = effect;
    const commands = commandsIn(value);
    const results = this.#options.stateMachine.apply(group, instance, commands);
    assert(results.length === commands.length, 'the state machine answers each command');
    this.#restored.checkpointer.applied(group, instance, value.length);
    if (commands.length > 0) this.#values.put(group, instance, value);
    if (proposals === null) return;
    assert(proposals.length === commands.length, 'each own command has its proposal');
    proposals.forEach((proposal, index) => {
      this.#waiters.resolve(proposal, { instance, result: results[index] });
    });
  }

  /** Sends outside of a step. */
  #answer(to: number, group: number, message: PeerMessage): void {
    this.#exchange.send(group, to, message);
    this.#schedule();
  }

  /** A replica needs what the log no longer has: it gets the checkpoint. */
  #offer(to: number, group: number): void {
    if (!this.#snapshots.offer(to, group)) this.#answer(to, group, { type: 'learn', entries: [] });
  }

  #tick(): void {
    this.#watchClock();
    this.#orDie(() => this.#snapshots.tick());
    for (let group = 0; group < this.groups; group += 1) this.#step(group, { type: 'tick' });
    if (this.#enrolment.joining) this.#orDie(() => this.#enrolment.heedMembers(this.#restored.groups));
    else this.#succession.tick(this.#runtime.monotonic_ms());
    // What a full disk had no room for is tried again.
    this.#writer.flush();
    this.#watchMasters();
  }

  /** A wall clock that runs away from the monotonic one means that the machine slept: no lease survives that. */
  #watchClock(): void {
    if (!this.#clocks.jumped()) return;
    for (let group = 0; group < this.groups; group += 1) this.#step(group, { type: 'clock_jump' });
  }

  #watchMasters(): void {
    const { may_vote, obstacle } = this.#enrolment;
    const now_ms = this.#runtime.monotonic_ms();
    const masterless = this.#masters.look(now_ms, (group) => {
      const core = this.#restored.at(group);
      const led = core.isMaster(now_ms) || (core.leader !== null && core.leader !== core.self);
      return may_vote && (led || this.#snapshots.standsStill(group));
    });
    if (masterless.length === 0) return;
    this.#options.onNoMaster?.(masterless, this.#exchange.connected_peers, obstacle);
  }
}
