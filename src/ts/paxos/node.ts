/**
 * The shell around the protocol core: performs its effects on the log, the replica connections and the state machine,
 * and feeds it with what comes back. All work of one turn of the event loop leaves together: one append to the log, one
 * frame to each peer.
 */
import { assert, PhxError } from '../errors.js';
import type { CheckpointStore } from './checkpoint_store.js';
import { type Checkpointer, DEFAULT_CHECKPOINT_OPTIONS } from './checkpointer.js';
import { ClockWatch } from './clock_watch.js';
import type { GroupMessage } from './codec.js';
import { foundersOf } from './configurations.js';
import type { Group } from './core/group.js';
import type { Effect, Input, MembersChange, Message } from './core/types.js';
import { Enrolment } from './enrolment.js';
import { FetchService } from './fetch_service.js';
import { HandOvers } from './hand_over.js';
import type { Caller } from './incoming.js';
import { LogWriter } from './log_writer.js';
import { MastersWatch } from './masters_watch.js';
import { asksForWrites, problemOf } from './message_check.js';
import { DEFAULT_LIMITS, type GroupStatus, type NodeLimits, type PaxosNodeOptions } from './node_options.js';
import { NODE_GROUP } from './node_records.js';
import { checkPlaces, NO_ID, placeOf, unsettledSentence } from './places.js';
import { entryOf, recordOf } from './records.js';
import type { Applied, Mastership, Replica, ReplicatedLog } from './replicated_log.js';
import type { Birth } from './report.js';
import { commandsIn, type RestoredGroups, restoreGroups } from './restored_groups.js';
import { PROCESS_RUNTIME, type Runtime } from './runtime.js';
import { senderOf } from './senders.js';
import { Succession } from './succession.js';
import type { Connections, TransportStats } from './transport.js';
import { ValueCache } from './value_cache.js';
import { VotePosition } from './vote_position.js';
import { refusalError, Waiters } from './waiters.js';

const TICK_MS = 20;
/** While more than this waits for a slow or full disk, peers are not listened to that bring more to write. */
const WRITES_WAITING_BYTES_MAX = 64 * 1024 * 1024;

/** What holds for a group without a checkpoint. */
const NO_CHECKPOINT = { instance: 0, first_retained: 1 } as const;

export class PaxosNode implements ReplicatedLog {
  readonly self: number;
  readonly replicas: readonly Replica[];
  readonly groups: number;
  readonly #options: PaxosNodeOptions;
  readonly #runtime: Runtime;
  readonly #limits: NodeLimits;
  readonly #groups: readonly Group[];
  readonly #checkpoints: CheckpointStore;
  readonly #checkpointer: Checkpointer;
  readonly #cache: ValueCache;
  readonly #waiters = new Waiters();
  readonly #dirty = new Set<number>();
  readonly #fetches: FetchService;
  readonly #hand_overs = new HandOvers();
  readonly #masters: MastersWatch;
  readonly #clocks: ClockWatch;
  readonly #writer: LogWriter;
  readonly #position: VotePosition;
  readonly #enrolment: Enrolment;
  readonly #succession: Succession;
  readonly #stopTicks: () => void;
  #transport: Connections | null = null;
  #scheduled = false;
  #proposals = 0;
  #closing: Promise<void> | null = null;

  private constructor(options: PaxosNodeOptions, runtime: Runtime, restored: RestoredGroups) {
    const { groups, checkpoints, checkpointer } = restored;
    const { log } = options;
    this.#options = options;
    this.#runtime = runtime;
    this.#limits = options.limits ?? DEFAULT_LIMITS;
    this.#cache = new ValueCache(this.#limits.value_cache_bytes_max);
    this.#groups = groups;
    this.#checkpoints = checkpoints;
    this.#checkpointer = checkpointer;
    this.self = options.identity.replica;
    this.replicas = options.replicas;
    this.groups = groups.length;
    this.#masters = new MastersWatch(groups.length);
    this.#clocks = new ClockWatch(runtime, options.core.lease_margin_ms);
    this.#fetches = new FetchService({
      log,
      checkpoints,
      learn_bytes_max: this.#limits.learn_bytes_max,
      logger: options.logger,
      answer: (to, group, message) => {
        this.#send(group, to, message);
        this.#schedule();
      },
    });
    this.#writer = new LogWriter(
      log,
      (group, append) => this.#onDurable(group, append),
      (error) => {
        this.#enrolment.close(error);
        options.onFailure(error);
      },
      this.#limits.portion_bytes_max,
    );
    this.#position = new VotePosition(
      log,
      groups.map((core) => core.chosen_through),
    );
    this.#enrolment = this.#makeEnrolment();
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
    const restored = await restoreGroups({
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
      node.#transport = await runtime.connect({
        identity,
        replicas: options.replicas,
        listen_host: options.listen_host,
        logger: options.logger,
        introductions: node.#enrolment,
        receive: (from, received) => node.#receive(from, received),
      });
    } catch (error) {
      await node.close();
      throw error;
    }
    node.#enrolment.listening();
    return node;
  }

  mastership(group: number): Mastership {
    if (this.#closed || !this.#enrolment.takes_part) return { role: 'unknown' };
    this.#watchClock();
    const core = this.#group(group);
    if (core.isMaster(this.#runtime.monotonic_ms())) return { role: 'master' };
    const { leader } = core;
    if (leader === null || placeOf(leader) === this.self) return { role: 'unknown' };
    return { role: 'follower', master: placeOf(leader) };
  }

  propose(group: number, command: readonly Uint8Array[]): Promise<Applied> {
    if (this.#closed) return Promise.reject(new PhxError('CLOSED', 'this node is closed'));
    if (!this.#enrolment.may_vote) return Promise.reject(refusalError('NO_MASTER'));
    const bytes = command.reduce((sum, part) => sum + part.length, 0);
    const { id, deadline_ms, applied } = this.#newProposal();
    this.#step(group, { type: 'propose', proposal: { id, parts: command, bytes, deadline_ms } });
    return applied;
  }

  #newProposal(): { readonly id: number; readonly deadline_ms: number; readonly applied: Promise<Applied> } {
    this.#proposals += 1;
    const id = this.#proposals;
    const deadline_ms = this.#runtime.monotonic_ms() + this.#options.propose_timeout_ms;
    return { id, deadline_ms, applied: this.#waiters.add(id) };
  }

  #changeMembers(group: number, change: MembersChange): Promise<Applied> {
    const { id, deadline_ms, applied } = this.#newProposal();
    this.#step(group, { type: 'change_members', id, deadline_ms, change });
    return applied;
  }

  value(group: number, instance: number): Uint8Array | Promise<Uint8Array> {
    return this.#cache.get(group, instance) ?? this.#readValue(group, instance);
  }

  appliedThrough(group: number): number {
    return this.#group(group).applied_through;
  }

  /**
   * Makes the checkpoints that are due and truncates the log below them; resolves to their number. To be called from time
   * to time, after the state machine let go of what nobody needs.
   */
  async checkpoint(): Promise<number> {
    try {
      const made = await this.#checkpointer.run();
      for (let group = 0; group < this.groups; group += 1) {
        this.#step(group, { type: 'retained', from: this.#firstRetained(group) });
      }
      return made;
    } catch (error) {
      this.#orDie(() => {
        throw error;
      });
      return 0;
    }
  }

  /**
   * Hands the leadership of all groups that this replica leads over to others, each to the one that is best caught up.
   * Resolves when these lead, or when the time of a lease is over: to the number of groups that it led and others lead now.
   */
  async handOver(): Promise<number> {
    const stop = this.#runtime.after(this.#options.core.lease_ms, () => this.#hand_overs.giveUp());
    const handed_over = await this.#hand_overs.all(this.#groups, (group) => {
      const asked = !this.#closed && this.#enrolment.may_vote;
      if (asked) this.#step(group, { type: 'transfer', to: null });
      return asked;
    });
    stop();
    return handed_over;
  }

  /** For metrics and the status page. */
  status(group: number): GroupStatus {
    const core = this.#group(group);
    const { role, ballot, chosen_through, waiting } = core;
    const leader = core.leader === null ? null : placeOf(core.leader);
    const { instance: checkpoint, first_retained } = this.#checkpoints.record(group) ?? NO_CHECKPOINT;
    return { role, leader, ballot, chosen_through, waiting, checkpoint, first_retained };
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
    return this.#enrolment.obstacle || unsettledSentence(this.#groups);
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
    this.#stopTicks();
    this.#writer.close();
    this.#checkpointer.close();
    this.#fetches.close();
    this.#hand_overs.giveUp();
    const closed = new PhxError('CLOSED', 'this node is closed');
    this.#enrolment.close(closed);
    await this.#transport?.close();
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
      onReintroduce: () => this.#transport?.reintroduce(),
      onTell: () => this.#transport?.tell(),
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
    this.#step(group, { type: 'durable', append });
  }

  get #closed(): boolean {
    return this.#closing !== null;
  }

  #group(group: number): Group {
    const core = this.#groups[group];
    assert(core !== undefined, 'the group exists');
    return core;
  }

  /** Steps a group; while nobody knows whether this replica may vote its groups stand still. */
  #step(group: number, input: Input): void {
    if (this.#enrolment.takes_part) this.#stepGroup(group, input);
  }

  #stepAll(inputOf: (group: number) => Input): void {
    for (let group = 0; group < this.groups; group += 1) this.#stepGroup(group, inputOf(group));
  }

  #stepGroup(group: number, input: Input): void {
    this.#orDie(() => {
      const core = this.#group(group);
      const effects = core.step(this.#runtime.monotonic_ms(), input);
      for (const effect of effects) this.#perform(group, effect);
      this.#hand_overs.look(group, core);
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
    this.#runtime.atEndOfTurn(() => this.#endTurn());
  }

  #endTurn(): void {
    this.#scheduled = false;
    this.#orDie(() => {
      for (const group of this.#dirty) {
        const effects = this.#group(group).step(this.#runtime.monotonic_ms(), { type: 'flush' });
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
        this.#send(group, effect.to, effect.message);
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
        this.#fetches.refuse(group, effect.to);
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
        this.#leaveCluster(this.#enrolment.birth);
        break;
    }
  }

  /** Others go on with another member in the place of `birth`. Not in the midst of a step: all groups lose their votes. */
  #leaveCluster(birth: Birth): void {
    this.#runtime.atEndOfTurn(() => this.#orDie(() => this.#enrolment.replaced(birth)));
  }

  #apply(group: number, effect: Effect & { type: 'apply' }): void {
    const { instance, value, proposals } = effect;
    const commands = commandsIn(value);
    const results = this.#options.stateMachine.apply(group, instance, commands);
    assert(results.length === commands.length, 'the state machine answers each command');
    this.#checkpointer.applied(group, instance, value.length);
    if (commands.length > 0) this.#cache.put(group, instance, value);
    if (proposals === null) return;
    assert(proposals.length === commands.length, 'each own command has its proposal');
    proposals.forEach((proposal, index) => {
      this.#waiters.resolve(proposal, { instance, result: results[index] });
    });
  }

  #send(group: number, to: number, message: Message): void {
    const place = placeOf(to);
    // Who joins fetches what is chosen: values that are only proposed would be a burden to it.
    if (message.type === 'accept' && this.#enrolment.joins(place)) return;
    this.#transport?.send(place, { group, from: this.#group(group).self, to, message });
  }

  #receive({ place, birth }: Caller, said: GroupMessage): void {
    const { group, message } = said;
    if (this.#closed || group >= this.groups) return;
    const founder = this.#enrolment.isFounder(place, birth);
    const from = senderOf(this.#group(group), { place, birth, founder }, said);
    if (from === null) return;
    // As if it had been lost: who asks repeats it.
    if (this.#writer.waiting_bytes > WRITES_WAITING_BYTES_MAX && asksForWrites(message)) return;
    const problem = problemOf(from, message);
    if (problem === null) this.#step(group, { type: 'message', from, message });
    else this.#options.logger.warn(`group ${group}: ignored a ${message.type} of replica ${place}: ${problem}`);
  }

  #tick(): void {
    this.#watchClock();
    for (let group = 0; group < this.groups; group += 1) this.#step(group, { type: 'tick' });
    if (this.#enrolment.joining) this.#orDie(() => this.#enrolment.heedMembers(this.#groups));
    else this.#succession.tick(this.#runtime.monotonic_ms());
    // What a full disk had no room for is tried again.
    this.#writer.flush();
    this.#watchMasters();
  }

  /** A wall clock that runs away from the monotonic one means that the machine slept: no lease survives that. */
  #watchClock(): void {
    const jump_ms = this.#clocks.look();
    if (jump_ms === 0) return;
    this.#options.logger.warn(
      `the wall clock jumped by ${Math.round(jump_ms)} ms; leases are renewed before they are used`,
    );
    for (let group = 0; group < this.groups; group += 1) this.#step(group, { type: 'clock_jump' });
  }

  #watchMasters(): void {
    const { may_vote, obstacle } = this.#enrolment;
    const now_ms = this.#runtime.monotonic_ms();
    const masterless = this.#masters.look(now_ms, (group) => {
      const core = this.#group(group);
      return may_vote && (core.isMaster(now_ms) || (core.leader !== null && core.leader !== core.self));
    });
    if (masterless.length === 0) return;
    this.#options.onNoMaster?.(masterless, this.#transport?.stats().connected_peers ?? 0, obstacle);
  }

  #firstRetained(group: number): number {
    return (this.#checkpoints.record(group) ?? NO_CHECKPOINT).first_retained;
  }

  async #readValue(group: number, instance: number): Promise<Uint8Array> {
    const body = await this.#options.log.read(group, instance);
    if (body === null) throw new PhxError('LOG_CORRUPT', `group ${group}: instance ${instance} is not in the log`);
    return entryOf(instance, body).value;
  }
}
