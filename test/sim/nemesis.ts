/** Brings about the faults of the plan: at random times, and aimed at leaders. */
import type { Machine } from './machine.js';
import type { World } from './world.js';

const POWER_CUT_OF_ALL = 0.1;
const PAUSE_MEAN_MS = 500;
const CLOG_MEAN_MS = 500;
/** Clogs that are aimed at a leader. */
const HOLD_BACK = 0.5;
const SLOW_DISK_MEAN_MS = 1_000;
const FULL_DISK_MEAN_MS = 2_000;
const CLOCK_SET_MS = 10_000;

export class Nemesis {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  start(): void {
    const { faults } = this.#world.plan;
    this.#repeat(faults.crash_mean_ms, () => this.#crash());
    this.#repeat(faults.clean_restart_mean_ms, () => void this.#any().restartCleanly());
    this.#repeat(faults.partition_mean_ms, () => this.#partition());
    this.#repeat(faults.clog_mean_ms, () => this.#clog());
    this.#repeat(faults.pause_mean_ms, () => this.#pause());
    this.#repeat(faults.sleep_mean_ms, () => this.#sleep());
    this.#repeat(faults.clock_set_mean_ms, () => {
      this.#any().setWallClock(this.#world.random.between(-CLOCK_SET_MS, CLOCK_SET_MS));
    });
    this.#repeat(faults.slow_disk_mean_ms, () => this.#slowDisk());
    this.#repeat(faults.full_disk_mean_ms, () => this.#fullDisk());
  }

  /** An acknowledgement has just been given: the worst moment for all to crash. */
  acknowledged(): void {
    if (!this.#world.strikes(this.#world.plan.faults.power_cut_after_acknowledgement)) return;
    this.#world.sometimes('all crash after an acknowledgement');
    for (const machine of this.#world.machines) machine.end(true);
  }

  #repeat(mean_ms: number, act: () => void): void {
    if (!Number.isFinite(mean_ms)) return;
    this.#world.timeline.after(this.#world.random.wait(mean_ms), () => {
      if (this.#world.healing) return;
      act();
      this.#repeat(mean_ms, act);
    });
  }

  #any(): Machine {
    return this.#world.random.pick(this.#world.machines);
  }

  #leader(): Machine | undefined {
    return this.#world.machines.find(({ process }) => process?.leads(0) === true);
  }

  #crash(): void {
    if (!this.#world.random.chance(POWER_CUT_OF_ALL)) {
      this.#any().crash();
      return;
    }
    this.#world.sometimes('all crash at once');
    for (const machine of this.#world.machines) machine.end(true);
  }

  #partition(): void {
    const { network, random, machines } = this.#world;
    network.unblockAll();
    if (random.chance(0.4)) return;
    const leader = this.#leader();
    const kind = leader === undefined ? 'any' : random.pick(['silence', 'divide', 'any', 'any'] as const);
    this.#world.trace(`partition: ${kind}`);
    if (leader !== undefined && kind === 'silence') this.#silence(leader);
    if (leader !== undefined && kind === 'divide') this.#divide(leader);
    if (kind !== 'any') return;
    for (const from of machines) {
      for (const to of machines) if (from !== to && random.chance(0.4)) network.block(from.id, to.id);
    }
  }

  /** Nobody hears the leader any more, and it hears one of the others: its lease ends, and it does not know why. */
  #silence(leader: Machine): void {
    const { network, random } = this.#world;
    const others = this.#world.machines.filter((machine) => machine !== leader);
    const heard = random.pick(others);
    for (const other of others) {
      network.block(leader.id, other.id);
      if (other !== heard) network.block(other.id, leader.id);
    }
    this.#world.sometimes('a leader is silenced');
  }

  /** One of the others and the leader do not hear each other; both hear the rest. */
  #divide(leader: Machine): void {
    const { network, random } = this.#world;
    const other = random.pick(this.#world.machines.filter((machine) => machine !== leader));
    network.block(leader.id, other.id);
    network.block(other.id, leader.id);
    this.#world.sometimes('a leader is divided from another replica');
  }

  #clog(): void {
    const { network, random } = this.#world;
    const leader = this.#leader();
    if (leader !== undefined && random.chance(HOLD_BACK)) {
      this.#holdBack(leader);
      return;
    }
    const [from, to] = [this.#any(), this.#any()];
    if (from === to) return;
    network.clog(from.id, to.id, random.wait(CLOG_MEAN_MS));
    this.#world.sometimes('a link is clogged');
  }

  /** What a leader says arrives when the others have elected another one. */
  #holdBack(leader: Machine): void {
    const { network, random, plan } = this.#world;
    const duration_ms = plan.core.lease_ms * random.between(1, 2.5);
    for (const { id } of this.#world.machines) if (id !== leader.id) network.clog(leader.id, id, duration_ms);
    this.#world.sometimes('a leader is held back');
  }

  #pause(): void {
    const machine = this.#any();
    if (machine.process?.isMaster(0) === true) this.#world.sometimes('a master is paused');
    machine.pause(this.#world.random.wait(PAUSE_MEAN_MS));
  }

  #sleep(): void {
    const machine = this.#any();
    if (machine.process === null) return;
    if (machine.process.isMaster(0)) this.#world.sometimes('the machine of a master sleeps');
    machine.sleep(this.#world.random.wait(PAUSE_MEAN_MS));
  }

  #slowDisk(): void {
    const machine = this.#any();
    machine.slow = true;
    this.#world.sometimes('a disk is slow');
    this.#world.timeline.after(this.#world.random.wait(SLOW_DISK_MEAN_MS), () => {
      machine.slow = false;
    });
  }

  #fullDisk(): void {
    const machine = this.#any();
    machine.full = true;
    this.#world.sometimes('a disk is full');
    this.#world.timeline.after(this.#world.random.wait(FULL_DISK_MEAN_MS), () => {
      machine.full = false;
    });
  }
}
