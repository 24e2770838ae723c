/** A machine: clocks, a disk, and at most one process of its replica, which may be paused, asleep or dead. */
import { type Identity, logIdentity } from '../../src/ts/paxos/identity.js';
import type { Replica as Address } from '../../src/ts/paxos/replicated_log.js';
import type { Birth, Report } from '../../src/ts/paxos/report.js';
import { SimDisk } from '../wal/sim_disk.js';
import { BallastLedger } from './ballast.js';
import { damage } from './damage.js';
import type { Call } from './files.js';
import { afterPowerCut } from './power_cut.js';
import { Replica } from './replica.js';
import type { World } from './world.js';

const CALL_MEAN_MS = 0.05;
const SLOW_DISK_FACTOR = 30;
/** Of the starts at which there is an older copy of the folder. */
const PUT_BACK = 0.5;

/** A folder as it was once. */
interface Copy {
  readonly disk: SimDisk;
  readonly ballast: BallastLedger;
  /** What it said then, once it is known: no more is in it. */
  told: Report | null;
}

export class Machine {
  readonly id: number;
  readonly identity: Identity;
  readonly replicas: readonly Address[];
  disk = new SimDisk();
  ballast = new BallastLedger();
  process: Replica | null = null;
  slow = false;
  full = false;
  /** Bytes of its log were damaged. */
  damaged = false;
  /** How its replica forgot what it had said; null if it did not, or is a member worth as much as any again. */
  impaired: string | null = null;
  /** When last seen it lacked part of a state that others gave it: then it cannot make up for another one that is lost. */
  incomplete = false;
  /** Its replica has voted. */
  voted = false;
  #votes = false;
  /** What its replica last said of itself, under which births it has voted, and under which it must not vote any more. */
  #told: Report | null = null;
  readonly #voters = new Set<Birth>();
  readonly #forgotten = new Set<Birth>();
  /** What peers remember of the folder since it was last started. */
  readonly #remembered = new Map<number, Report>();
  /** The folder as it was before an earlier start, or before it was lost. */
  #copy: Copy | null = null;
  readonly #world: World;
  readonly #rate: number;
  #monotonic_offset_ms: number;
  #wall_offset_ms: number;
  #paused_until_ms = 0;
  /** Since when it sleeps: its monotonic clock stands still. */
  #asleep_since_ms: number | null = null;
  #backlog: (() => void)[] = [];
  #at_rest = true;

  constructor(world: World, id: number, replicas: readonly Address[]) {
    const { random, plan } = world;
    this.#world = world;
    this.id = id;
    this.identity = { cluster: 'simulated', replica: id, groups: plan.groups };
    this.replicas = replicas;
    this.#rate = 1 + random.between(-plan.faults.drift, plan.faults.drift);
    this.#monotonic_offset_ms = random.between(0, 1e6);
    this.#wall_offset_ms = random.between(1e12, 2e12);
  }

  monotonic_ms(): number {
    const now_ms = this.#asleep_since_ms ?? this.#world.timeline.now_ms;
    return now_ms * this.#rate + this.#monotonic_offset_ms;
  }

  wall_ms(): number {
    return this.#world.timeline.now_ms + this.#wall_offset_ms;
  }

  remembered(by: number, told: Report): void {
    this.#told = told;
    this.#remembered.set(by, told);
    if (this.#copy !== null) this.#copy.told ??= told;
  }

  /** Whether a peer remembers that the folder was further than its older copy, or that another one votes in its place. */
  isCopyKnown(to: number): boolean {
    const copied = this.#copy?.told ?? null;
    const last = this.#remembered.get(to);
    if (copied === null || last === undefined) return false;
    return last.birth === copied.birth ? last.position > copied.position : last.member !== null;
  }

  /** A peer lost its memory. */
  forgottenBy(id: number): void {
    this.#remembered.delete(id);
  }

  /** Notes whether its replica votes now, and that it does not under a birth that forgot something. */
  watchVote(): void {
    const world = this.#world;
    const votes = this.process?.votes === true;
    this.incomplete = this.process?.incomplete ?? this.incomplete;
    if (votes && !this.#votes) {
      this.voted = true;
      const birth = world.network.birthOf(this.id);
      if (birth !== null) {
        this.#voters.add(birth);
        if (this.#forgotten.has(birth)) {
          world.violation(`replica ${this.id} votes, though its folder forgot what it had said`);
        }
      }
    }
    this.#votes = votes;
    if (this.impaired === null || this.process?.ready !== true) return;
    world.trace(`${this.id} is whole again`);
    world.sometimes(`whole again after: ${this.impaired}`);
    this.impaired = null;
    this.damaged = false;
  }

  setWallClock(by_ms: number): void {
    this.#wall_offset_ms += by_ms;
    this.#world.trace(`${this.id} sets its clock by ${by_ms.toFixed(0)} ms`);
  }

  get paused(): boolean {
    return this.#world.timeline.now_ms < this.#paused_until_ms;
  }

  duration_ms(call: Call): number {
    const { random, plan, healing } = this.#world;
    if (call !== 'sync' && call !== 'syncFolder') return random.wait(CALL_MEAN_MS);
    const { sync_mean_ms, stall } = plan.faults;
    const stalled = !healing && random.chance(stall);
    return random.wait(sync_mean_ms) * (stalled ? 100 : 1) * (this.slow ? SLOW_DISK_FACTOR : 1);
  }

  /** Starts the replica's process. */
  start(): void {
    if (this.process !== null) return;
    if (this.#at_rest) this.#ageDisk();
    this.#at_rest = false;
    this.#remembered.clear();
    const replica = new Replica(this.#world, this);
    this.process = replica;
    this.#world.trace(`${this.id} starts`);
    void replica.start();
  }

  /** The process dies, or the machine loses its power, and starts again after a while. */
  crash(): void {
    this.end(this.#world.random.chance(this.#world.plan.faults.power_cut));
  }

  end(power_cut: boolean): void {
    const { process } = this;
    if (process === null) return;
    const world = this.#world;
    if (world.checkers.some((_, group) => process.leads(group))) world.sometimes('a leader crashes');
    world.trace(`${this.id} ${power_cut ? 'loses its power' : 'dies'}`);
    process.kill();
    this.process = null;
    this.#wake();
    this.#paused_until_ms = 0;
    this.#backlog = [];
    if (power_cut) {
      this.disk = afterPowerCut(this.disk, world.random);
      this.#at_rest = true;
    }
    const { down_max_ms } = world.plan.faults;
    const down_ms = world.random.wait(world.healing ? 5 : world.random.pick([5, down_max_ms]));
    world.timeline.after(down_ms, () => this.start());
  }

  /** The operator throws away a folder that cannot be used, and starts the replica on an empty one. */
  discardDisk(): void {
    this.process?.kill();
    this.process = null;
    this.#replaceDisk(new SimDisk(), new BallastLedger(), 'a damaged disk is emptied');
    this.#world.timeline.after(this.#world.random.wait(1_000), () => this.start());
  }

  /** Stops process and machine as an operator does, and starts them again. */
  async restartCleanly(): Promise<void> {
    const { process } = this;
    if (process?.node === null || process === null) return;
    this.#world.trace(`${this.id} is stopped`);
    await process.stop();
    if (!process.alive) return;
    this.#world.sometimes('a clean restart');
    this.end(true);
  }

  /** Runs what a process does next, once the machine lets it. */
  deliver(process: Replica, run: () => void): void {
    if (!this.paused) run();
    else {
      this.#backlog.push(() => {
        if (process.alive) this.deliver(process, run);
      });
    }
  }

  /** The process stands still; its clocks go on. */
  pause(duration_ms: number): void {
    const { timeline } = this.#world;
    this.#paused_until_ms = Math.max(this.#paused_until_ms, timeline.now_ms + duration_ms);
    this.#world.trace(`${this.id} pauses for ${duration_ms.toFixed(0)} ms`);
    timeline.after(duration_ms, () => this.#resume());
  }

  /** The whole machine stands still, and its monotonic clock with it. */
  sleep(duration_ms: number): void {
    this.#asleep_since_ms ??= this.#world.timeline.now_ms;
    this.pause(duration_ms);
  }

  /** Everything works again. */
  heal(): void {
    this.slow = false;
    this.full = false;
    this.#paused_until_ms = 0;
    this.#resume();
    this.start();
  }

  #resume(): void {
    if (this.paused) return;
    this.#wake();
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const run of backlog) this.#world.timeline.after(0, run);
  }

  #wake(): void {
    if (this.#asleep_since_ms === null) return;
    this.#monotonic_offset_ms -= (this.#world.timeline.now_ms - this.#asleep_since_ms) * this.#rate;
    this.#asleep_since_ms = null;
  }

  /** What happened to the disk while the machine was without power. */
  #ageDisk(): void {
    const { plan } = this.#world;
    const { wipe, old_copy } = plan.faults;
    if (this.#world.strikes(wipe) && this.#world.mayLoseDisk(this)) {
      if (this.#told !== null) this.#copy ??= this.#copyOf(this.#told);
      this.#replaceDisk(new SimDisk(), new BallastLedger(), 'a disk is wiped');
    } else if (this.#copy !== null && this.#world.strikes(PUT_BACK) && this.#world.mayRestoreCopy(this)) {
      this.#putBack(this.#copy);
    } else if (this.#world.strikes(plan.faults.damage) && this.#world.mayLoseDisk(this)) {
      const what = damage(this.disk, logIdentity(this.identity), this.#world.random);
      if (what === null) return;
      this.damaged = true;
      this.#world.trace(`${this.id} is damaged: ${what}`);
      this.#world.sometimes('a disk is damaged');
    } else if (this.#copy === null && this.#world.strikes(old_copy)) {
      this.#copy = this.#copyOf(null);
    }
  }

  /** The folder as it is; `told` is what it said last, if it says nothing more. */
  #copyOf(told: Report | null): Copy {
    return { disk: new SimDisk(this.disk.visible()), ballast: this.ballast.copy(), told };
  }

  #putBack({ disk, ballast, told }: Copy): void {
    this.#copy = null;
    const replaced = told !== null && told.birth !== this.#told?.birth;
    this.#replaceDisk(disk, ballast, replaced ? 'a replaced disk is put back' : 'a disk is put back');
    this.#forget(told);
  }

  /** A birth that never voted has said nothing that counts: it may join again. */
  #forget(told: Report | null): void {
    if (told !== null && this.#voters.has(told.birth)) this.#forgotten.add(told.birth);
  }

  #replaceDisk(disk: SimDisk, ballast: BallastLedger, how: string): void {
    this.disk = disk;
    this.ballast = ballast;
    this.impaired = how;
    this.#forget(this.#told);
    for (const machine of this.#world.machines) machine.forgottenBy(this.id);
    this.#world.trace(`${this.id}: ${how}`);
    this.#world.sometimes(how);
  }
}
