/**
 * A cluster of production replicas (protocol, shell, portable log, state machine) on simulated clocks, network and disks. Two
 * phases: first faults whose rates are drawn from the seed, then everything heals and must converge. Nothing depends on
 * anything but the seed.
 */
import { entryOf } from '../../src/ts/paxos/records.js';
import { Violation } from './checker.js';
import { Machine } from './machine.js';
import { Nemesis } from './nemesis.js';
import type { Replica } from './replica.js';
import { stateHash } from './state_check.js';
import { Workload } from './workload.js';
import { World } from './world.js';

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
  readonly simulated_ms: number;
  readonly proposed: number;
  readonly acknowledged: number;
  readonly reads: number;
  readonly reached: ReadonlyMap<string, number>;
}

const CONVERGE_MS = 60_000;
const LOG_READ_BYTES = 1024 * 1024;

export class Simulation {
  readonly #world: World;
  readonly #nemesis: Nemesis;
  readonly #workload: Workload;
  readonly #faults_ms: number;

  constructor({ seed, faults_ms, trace }: SimulationOptions) {
    const world = new World(seed, trace ?? null);
    this.#world = world;
    this.#faults_ms = faults_ms;
    const ids = Array.from({ length: world.plan.replicas }, (_, index) => index + 1);
    const addresses = ids.map((id) => ({ id, host: `machine-${id}`, paxos_port: 1 }));
    world.machines = ids.map((id) => new Machine(world, id, addresses));
    this.#nemesis = new Nemesis(world);
    this.#workload = new Workload(world, this.#nemesis);
  }

  /** Runs both phases. Rejects with a Violation when something that must hold does not. */
  async run(): Promise<SimulationResult> {
    const onRejection = (error: unknown): void => this.#world.report(error);
    process.on('unhandledRejection', onRejection);
    try {
      return await this.#run();
    } finally {
      process.off('unhandledRejection', onRejection);
    }
  }

  async #run(): Promise<SimulationResult> {
    const world = this.#world;
    for (const machine of world.machines) machine.start();
    this.#workload.start();
    this.#nemesis.start();
    await this.#advance(this.#faults_ms);
    await this.#converge();
    const sum = (key: 'proposed' | 'acknowledged' | 'reads'): number => {
      return world.checkers.reduce((total, checker) => total + checker[key], 0);
    };
    return {
      seed: world.seed,
      trace_hash: world.traceHash(),
      events: world.timeline.events,
      simulated_ms: world.timeline.now_ms,
      proposed: sum('proposed'),
      acknowledged: sum('acknowledged'),
      reads: sum('reads'),
      reached: world.reached,
    };
  }

  /** Lets time pass, and looks after each event whether all still holds. */
  async #advance(duration_ms: number, done: () => boolean = () => false): Promise<void> {
    const world = this.#world;
    await world.timeline.run(world.timeline.now_ms + duration_ms, () => {
      this.#watch();
      return world.failure !== null || done();
    });
    if (world.failure !== null) throw world.failure;
  }

  #watch(): void {
    const world = this.#world;
    const replicas = this.#replicas();
    for (const replica of replicas) replica.watchRoles();
    for (const machine of world.machines) machine.watchVote();
    world.guard(() => {
      world.checkers.forEach((checker, group) => {
        const masters = replicas.filter((replica) => replica.isMaster(group));
        checker.masters(masters.map(({ id }) => id));
        for (const master of masters) checker.read(master.id, master.appliedThrough(group));
      });
    });
  }

  #replicas(): Replica[] {
    return this.#world.machines.map(({ process: replica }) => replica).filter((replica) => replica !== null);
  }

  /** Everybody must vote and apply the same, and new proposals must go through. */
  async #converge(): Promise<void> {
    const world = this.#world;
    world.trace('healing');
    world.healing = true;
    world.network.heal();
    for (const machine of world.machines) machine.heal();
    const healed = world.checkers.map(({ acknowledged }) => acknowledged);
    const converged = (): boolean => {
      const replicas = this.#replicas();
      if (replicas.length < world.machines.length || !replicas.every(({ awake, ready }) => awake && ready))
        return false;
      return world.checkers.every((checker, group) => {
        const applied = new Set(replicas.map((replica) => replica.appliedThrough(group)));
        const progress = checker.acknowledged > (healed[group] ?? 0);
        return applied.size === 1 && progress && replicas.some((replica) => replica.isMaster(group));
      });
    };
    await this.#advance(CONVERGE_MS, converged);
    if (!converged()) {
      const states = world.machines.map(({ id, process: replica }) => `${id}: ${describe(replica, world)}`);
      throw new Violation(world.timeline.now_ms, `no convergence within ${CONVERGE_MS} ms (${states.join('; ')})`);
    }
    await this.#compare();
  }

  /** Equal states, and equal logs that hold what was chosen. */
  async #compare(): Promise<void> {
    const world = this.#world;
    const replicas = this.#replicas();
    for (const replica of replicas) replica.trim();
    const through = world.checkers.map((_, group) => replicas[0]?.appliedThrough(group) ?? 0);
    world.checkers.forEach((checker, group) => {
      checker.finish(through[group] ?? 0);
    });
    const hashes = new Set(replicas.map(({ store }) => stateHash(store, world.plan.groups)));
    if (hashes.size > 1) throw new Violation(world.timeline.now_ms, 'the states of the replicas differ');
    const values = world.checkers.map(() => new Map<number, Uint8Array>());
    let left = replicas.length;
    for (const replica of replicas) {
      this.#compareLog(replica, through, values)
        .catch((error: unknown) => world.report(error))
        .finally(() => {
          left -= 1;
        });
    }
    await this.#advance(CONVERGE_MS, () => left === 0);
    if (left > 0) throw new Violation(world.timeline.now_ms, 'the logs cannot be read in time');
  }

  async #compareLog(replica: Replica, through: readonly number[], values: Map<number, Uint8Array>[]): Promise<void> {
    const world = this.#world;
    for (const [group, known] of values.entries()) {
      const last = through[group] ?? 0;
      let next = replica.node?.status(group).first_retained ?? 1;
      while (next <= last) {
        const entries = (await replica.log?.readRange(group, next, last, LOG_READ_BYTES)) ?? [];
        for (const { instance, body } of entries) {
          const { value } = entryOf(instance, body);
          const other = known.get(instance);
          if (other === undefined) known.set(instance, value);
          const sound = instance === next && world.checker(group).isChosen(instance, value);
          const equal = other === undefined || Buffer.compare(other, value) === 0;
          if (!sound || !equal)
            world.violation(`the log of ${replica.id} differs at instance ${next} of group ${group}`);
          next += 1;
        }
        if (entries.length === 0) {
          world.violation(`the log of ${replica.id} lacks instance ${next} of group ${group}`);
          return;
        }
      }
    }
  }
}

function describe(replica: Replica | null, world: World): string {
  if (replica === null) return 'down';
  const groups = world.checkers.map((_, group) => {
    return `${replica.node?.status(group).role} applied ${replica.appliedThrough(group)}`;
  });
  return [...groups, replica.node?.obstacle].join(', ');
}
