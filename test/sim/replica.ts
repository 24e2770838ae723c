/** One process of a replica: the production log, node and state machine on the machine's clock, disk and network. */
import { PhxError } from '../../src/ts/errors.js';
import { CheckpointStore } from '../../src/ts/paxos/checkpoint_store.js';
import type { PeerMessage } from '../../src/ts/paxos/codec.js';
import { NO_BALLOT } from '../../src/ts/paxos/core/ballot.js';
import { noopValue, originOf } from '../../src/ts/paxos/core/value.js';
import { logIdentity } from '../../src/ts/paxos/identity.js';
import { PaxosNode } from '../../src/ts/paxos/node.js';
import type { Command, StateMachine } from '../../src/ts/paxos/replicated_log.js';
import type { Report } from '../../src/ts/paxos/report.js';
import type { Runtime } from '../../src/ts/paxos/runtime.js';
import { StoreStateMachine } from '../../src/ts/store/state_machine.js';
import { trimQueues } from '../../src/ts/store/trim.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { Ballast } from './ballast.js';
import { Violation } from './checker.js';
import { type Call, type FailureCode, type FilesHost, TimedFiles } from './files.js';
import type { Machine } from './machine.js';
import type { Endpoint } from './network.js';
import type { Timeline } from './timeline.js';
import { CONSUMER_GROUPS } from './workload.js';
import type { World } from './world.js';

const PROPOSE_TIMEOUT_MS = 1_500;
/** A process whose node failed lives on for so long. */
const LAST_WORDS_MEAN_MS = 20;
/** Of the clean stops, those that hand the leadership over first. */
const HANDS_OVER = 0.7;

export class Replica implements Endpoint, FilesHost, StateMachine {
  readonly id: number;
  readonly timeline: Timeline;
  readonly store: StoreStateMachine;
  alive = true;
  node: PaxosNode | null = null;
  log: LogEngine | null = null;
  readonly #world: World;
  readonly #machine: Machine;
  readonly #files: TimedFiles;
  readonly #applied: number[];
  readonly #roles: string[];
  /** A call of its failed: that it stops is no wonder. */
  #excused = false;
  /** It heard that a write or sync failed: from then on nothing may be reported durable. */
  #disk_failed = false;
  #stopping = false;
  #ballast: Ballast | null = null;
  #rewritten_bytes = 0;

  constructor(world: World, machine: Machine) {
    this.#world = world;
    this.#machine = machine;
    this.id = machine.id;
    this.timeline = world.timeline;
    this.store = new StoreStateMachine(world.plan.groups);
    this.#files = new TimedFiles(machine.disk, this);
    this.#applied = world.checkers.map(() => 0);
    this.#roles = world.checkers.map(() => 'follower');
  }

  appliedThrough(group: number): number {
    return this.#applied[group] ?? 0;
  }

  /** Whether it can answer anybody now. */
  get awake(): boolean {
    return this.alive && this.node !== null && !this.#stopping && !this.#machine.paused;
  }

  /** Whether it takes part in votes now. */
  get votes(): boolean {
    return this.alive && this.node?.votes === true;
  }

  /** Whether it says that another replica may lose its disk. */
  get ready(): boolean {
    return this.votes && this.node?.obstacle === '';
  }

  /** Whether a group waits for its state; undefined while nobody can tell. */
  get incomplete(): boolean | undefined {
    const { node } = this;
    return this.alive && node !== null
      ? this.#world.checkers.some((_, group) => node.status(group).stands_still)
      : undefined;
  }

  /** What it reads may be damaged. */
  get damaged(): boolean {
    return this.#machine.damaged;
  }

  isMaster(group: number): boolean {
    return this.awake && this.node?.mastership(group).role === 'master';
  }

  leads(group: number): boolean {
    return this.alive && this.node?.status(group).role === 'leader';
  }

  async start(): Promise<void> {
    const { plan } = this.#world;
    const { identity } = this.#machine;
    try {
      const log = await openPortable(
        { folder: 'log', identity: logIdentity(identity), segment_bytes: plan.segment_bytes },
        {
          files: this.#files,
          clock_ms: () => this.timeline.now_ms,
          later: (delay_ms, run) => this.#later(delay_ms, run),
        },
      );
      this.log = log;
      const ballast = new Ballast(this.#world, this.#machine.ballast, log, (error) => this.#fail(error));
      this.#ballast = ballast;
      await ballast.check();
      const node = await PaxosNode.start({
        identity,
        replicas: this.#machine.replicas,
        listen_host: '',
        log,
        stateMachine: this,
        core: plan.core,
        checkpoints: plan.checkpoints,
        propose_timeout_ms: PROPOSE_TIMEOUT_MS,
        logger: {
          info: (line) => this.#informed(line),
          warn: (line) => this.#world.trace(`${this.id} warns: ${line}`),
        },
        limits: plan.limits,
        runtime: this.#runtime(),
        onFailure: (error) => this.#fail(error),
      });
      if (!this.alive) return;
      this.node = node;
      this.#started(log);
      this.#growBallast(ballast, log);
      this.#makeCheckpoints(node);
    } catch (error) {
      this.#startFailed(error);
    }
  }

  /** Ends the process at once. */
  kill(): void {
    this.alive = false;
    this.#files.kill();
  }

  /** Ends it as an operator does; resolves when it is over. */
  async stop(): Promise<void> {
    if (this.#world.random.chance(HANDS_OVER)) await this.#handOver();
    if (!this.alive) return;
    this.#stopping = true;
    this.#ballast?.stop();
    try {
      await this.node?.close();
      await this.log?.close();
    } catch (error) {
      if (!this.#excused) this.#world.report(error);
    }
  }

  /** Runs what the process does next, once it can. */
  deliver(run: () => void): void {
    if (this.alive) this.#machine.deliver(this, run);
  }

  sent(types: readonly PeerMessage['type'][]): void {
    const { faults } = this.#world.plan;
    for (const type of types) {
      if (type === 'fetch') this.#world.sometimes('a gap is fetched');
      const probability =
        type === 'promise'
          ? faults.crash_after_promise
          : type === 'accepted'
            ? faults.crash_after_accepted
            : type === 'heartbeat_reply'
              ? faults.crash_after_grant
              : 0;
      if (!this.alive || !this.#world.strikes(probability)) continue;
      this.#world.sometimes(`a crash after: ${type}`);
      this.#machine.crash();
    }
  }

  welcomed(by: number, told: Report): void {
    this.#machine.remembered(by, told);
  }

  lost(): void {
    this.#world.sometimes('a connection is lost');
  }

  duration_ms(call: Call): number {
    return this.#machine.duration_ms(call);
  }

  failureOf(call: Call, grows: boolean): FailureCode | null {
    const { faults } = this.#world.plan;
    if (grows && this.#machine.full) {
      this.#excused = true;
      return 'ENOSPC';
    }
    const probability = call === 'write' ? faults.write_error : call === 'sync' ? faults.sync_error : 0;
    if (!this.#world.strikes(probability)) return null;
    this.#excused = true;
    this.#world.sometimes(`a ${call} fails`);
    return 'EIO';
  }

  failed(code: FailureCode): void {
    if (code === 'EIO') this.#disk_failed = true;
  }

  called(call: Call, from: string, to: string): void {
    const { faults } = this.#world.plan;
    if (call === 'rename') {
      if (to.endsWith('.seg')) this.#world.sometimes('the log goes on in another segment');
      if (to.endsWith('.old')) this.#world.sometimes('a dead segment is retired');
      if (from.endsWith('.old')) this.#world.sometimes('a retired segment becomes the spare');
    }
    const names = call === 'create' || call === 'rename' || call === 'unlink' || call === 'syncFolder';
    const probability = names ? faults.crash_at_name : call === 'sync' ? faults.crash_at_sync : 0;
    if (!this.alive || !this.#world.strikes(probability)) return;
    this.#world.sometimes(names ? 'a crash at a change of names' : 'a crash before a sync');
    this.#machine.crash();
  }

  /** The state machine, watched. */
  apply(group: number, instance: number, commands: readonly Command[]): readonly unknown[] {
    if (!this.alive) return commands.map(() => null);
    const value = valueBehind(commands);
    this.#world.checker(group).applied(this.id, instance, this.appliedThrough(group), value);
    this.#applied[group] = instance;
    const results = this.store.apply(group, instance, commands);
    const { role, ballot } = this.node?.status(group) ?? { role: '', ballot: 0 };
    if (role === 'leader' && commands.length > 0 && originOf(value) !== ballot) {
      this.#world.sometimes('a leader applies a value of another leadership');
    }
    return results;
  }

  snapshot(group: number): Uint8Array[] {
    this.#world.sometimes('a checkpoint is made');
    return this.store.snapshot(group);
  }

  retention(group: number): Uint8Array[] {
    return this.store.retention(group);
  }

  firstNeeded(group: number): number {
    return this.store.firstNeeded(group);
  }

  restore(group: number, snapshot: Uint8Array, retention: Uint8Array): void {
    if (this.alive) this.store.restore(group, snapshot, retention);
  }

  reindex(group: number, instance: number, commands: readonly Command[]): void {
    if (!this.alive) return;
    this.#world.sometimes('an instance is indexed again');
    this.store.reindex(group, instance, commands);
  }

  restored(group: number): void {
    if (!this.alive || this.log === null) return;
    const before = this.#applied[group] ?? 0;
    this.#world.sometimes(this.node === null ? 'a restart from a checkpoint' : 'a snapshot is installed');
    const { instance = 0 } = new CheckpointStore(this.log).record(group) ?? {};
    if (instance <= before) this.#world.violation(`replica ${this.id} goes back from ${before} to ${instance}`);
    this.#applied[group] = instance;
    this.store.restored(group);
  }

  /** Lets go of the items that all consumers acknowledged. */
  trim(): void {
    trimQueues(this.store.queues(), () => CONSUMER_GROUPS, 0);
  }

  /** Notes what became of its roles. */
  watchRoles(): void {
    this.#roles.forEach((before, group) => {
      const status = this.node?.status(group);
      if (status === undefined || status.role === before) return;
      this.#roles[group] = status.role;
      this.#world.trace(`${this.id} becomes ${status.role} of group ${group} at ballot ${status.ballot}`);
      if (status.role === 'leader') this.#world.sometimes('an election is won');
    });
  }

  #runtime(): Runtime {
    const { random, network } = this.#world;
    return {
      monotonic_ms: () => this.#machine.monotonic_ms(),
      wall_ms: () => this.#machine.wall_ms(),
      every: (interval_ms, run) => this.#every(interval_ms, run),
      atEndOfTurn: (run) => this.timeline.after(0, () => this.deliver(run)),
      after: (delay_ms, run) => this.#later(delay_ms, run),
      seed: () => random.integer(0, 2 ** 32 - 1),
      connect: async (options) => {
        if (!this.alive) await new Promise(() => undefined);
        return network.connect(this, options);
      },
    };
  }

  #every(interval_ms: number, run: () => void): () => void {
    let stopped = false;
    const next = (): void => {
      this.timeline.after(interval_ms * this.#world.random.between(0.95, 1.2), () =>
        this.deliver(() => {
          if (stopped) return;
          run();
          next();
        }),
      );
    };
    next();
    return () => {
      stopped = true;
    };
  }

  #later(delay_ms: number, run: () => void): () => void {
    let cancelled = false;
    this.timeline.after(delay_ms, () =>
      this.deliver(() => {
        if (!cancelled) run();
      }),
    );
    return () => {
      cancelled = true;
    };
  }

  #started(log: LogEngine): void {
    const world = this.#world;
    world.trace(`${this.id} started: applied ${this.#applied.join(', ')}, ${log.recovery.torn_bytes} bytes torn`);
    if (log.recovery.torn_bytes > 0) world.sometimes('a torn tail is wiped');
    const unsure = this.#applied.some((applied, group) => (log.bounds(group)?.last ?? 0) > applied);
    if (unsure) world.sometimes('restart with values not known to be chosen');
  }

  async #handOver(): Promise<void> {
    const groups = (await this.node?.handOver()) ?? 0;
    if (groups > 0) this.#world.sometimes('the leadership is handed over');
  }

  #informed(line: string): void {
    this.#world.trace(`${this.id} says: ${line}`);
    if (/which its checkpoint needs/.test(line)) {
      this.#world.sometimes(
        this.node === null ? 'a restart goes on fetching for its checkpoint' : 'a gap below a snapshot',
      );
    } else if (/of which [1-9]\d* of/.test(line)) {
      this.#world.sometimes('a snapshot goes on from another replica');
    } else if (/of which 0 of/.test(line)) {
      this.#world.sometimes('a snapshot is begun');
    }
  }

  #makeCheckpoints(node: PaxosNode): void {
    const { random, plan } = this.#world;
    this.#later(random.wait(plan.load.checkpoint_mean_ms), () => {
      if (this.#stopping) return;
      this.trim();
      void node.checkpoint();
      this.#makeCheckpoints(node);
    });
  }

  #growBallast(ballast: Ballast, log: LogEngine): void {
    const { random, plan } = this.#world;
    this.#later(random.wait(plan.load.ballast_mean_ms), () => {
      if (this.#stopping) return;
      if (log.low_on_space) this.#world.sometimes('a log is low on space');
      this.#noteRewriting(log);
      try {
        ballast.grow(() => !this.#disk_failed);
      } catch (error) {
        if (!(error instanceof PhxError) || error.code !== 'LOG_FULL') {
          this.#world.report(error);
          return;
        }
        this.#world.sometimes('a log is full');
      }
      this.#growBallast(ballast, log);
    });
  }

  #noteRewriting(log: LogEngine): void {
    const { rewritten_bytes } = log.stats();
    if (rewritten_bytes > this.#rewritten_bytes) this.#world.sometimes('a sparse segment is rewritten');
    this.#rewritten_bytes = rewritten_bytes;
  }

  #startFailed(error: unknown): void {
    if (!this.alive) return;
    this.#world.trace(`${this.id} does not start: ${String(error)}`);
    const code = error instanceof PhxError ? error.code : '';
    if (this.#machine.damaged && code === 'LOG_CORRUPT') {
      this.#world.sometimes('a damaged log is refused');
      this.#machine.discardDisk();
    } else if (this.#excused && code.startsWith('LOG_')) {
      this.#world.sometimes('a start fails');
      this.#machine.end(false);
    } else {
      this.#world.violation(`replica ${this.id} does not start: ${String(error)}`);
    }
  }

  /** The node says that it cannot go on. */
  #fail(error: Error): void {
    if (!this.alive || this.#stopping) return;
    if (error instanceof Violation || !this.#excused || !(error instanceof PhxError)) {
      this.#world.report(error instanceof Violation ? error : new Error(`replica ${this.id} fails`, { cause: error }));
      return;
    }
    this.#stopping = true;
    this.#world.sometimes('a replica stops after its disk failed');
    this.#world.trace(`${this.id} stops: ${error.message}`);
    this.timeline.after(this.#world.random.wait(LAST_WORDS_MEAN_MS), () => {
      if (this.alive) this.#machine.end(false);
    });
  }
}

/** The head of the value from which the commands come; no-operations of any ballot look alike. */
function valueBehind(commands: readonly Command[]): Uint8Array {
  const [first] = commands;
  const last = commands.at(-1);
  if (first === undefined || last === undefined) return noopValue(NO_BALLOT);
  const { buffer, byteOffset } = first.bytes;
  const start = byteOffset - first.offset;
  return new Uint8Array(buffer, start, last.bytes.byteOffset + last.bytes.length - start);
}
