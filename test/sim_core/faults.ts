/** The rates of the faults of a run, drawn from its seed. */
import { type CoreOptions, DEFAULT_CORE_OPTIONS, type Message } from '../../src/ts/paxos/core/types.js';
import type { Random } from '../sim/random.js';
import type { DiskFaults } from './disk.js';

export interface Faults {
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
  readonly change_mean_ms: number;
  readonly checkpoint_mean_ms: number;
  /** Infinite: no disk is lost, and a cluster may shrink to two voters. */
  readonly wipe_mean_ms: number;
  /** How often damage meets a value that others lack. */
  readonly damage_mean_ms: number;
  /** Probabilities that a restart finds damaged records of chosen values, or reads one wrongly. */
  readonly damage: number;
  readonly corruption: number;
  /** Probability of a partition as soon as somebody has applied a change of the members. */
  readonly partition_after_change: number;
  /** Probabilities of a crash of the sender right after such a message, and of all after an acknowledgement. */
  readonly crash_after_promise: number;
  readonly crash_after_accepted: number;
  readonly crash_after_grant: number;
  readonly power_cut_after_acknowledgement: number;
  readonly propose_mean_ms: number;
  readonly lease_ms: number;
}

export function drawFaults(random: Random): Faults {
  return {
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
    change_mean_ms: random.pick([300, 1_000, 5_000]),
    checkpoint_mean_ms: random.pick([200, 2_000, 20_000]),
    wipe_mean_ms: random.pick([2_000, 20_000, Number.POSITIVE_INFINITY]),
    damage_mean_ms: random.pick([1_000, 5_000, Number.POSITIVE_INFINITY]),
    damage: random.pick([0, 0.1, 0.5]),
    corruption: random.pick([0, 0.2]),
    partition_after_change: random.pick([0, 0.5, 1]),
    crash_after_promise: random.pick([0, 0.1, 0.5]),
    crash_after_accepted: random.chance(0.5) ? 0 : random.between(0, 0.002),
    crash_after_grant: random.chance(0.5) ? 0 : random.between(0, 0.01),
    power_cut_after_acknowledgement: random.chance(0.5) ? 0 : random.between(0, 0.001),
    propose_mean_ms: random.pick([2, 10, 40]),
    lease_ms: random.pick([300, 300, 1_000]),
  };
}

export function drawDiskFaults(random: Random): DiskFaults {
  return { sync_mean_ms: random.pick([0.2, 1, 5]), stall: random.pick([0, 0, 0.01]) };
}

export function coreOptions({ lease_ms }: Faults, random: Random): CoreOptions {
  return {
    ...DEFAULT_CORE_OPTIONS,
    lease_ms,
    lease_margin_ms: lease_ms / 20,
    heartbeat_ms: lease_ms / 5,
    window_max: random.pick([1, 4, 16]),
  };
}

/** Probability of a crash right after the replica said this. */
export function crashProbability(faults: Faults, said: Message['type']): number {
  switch (said) {
    case 'promise':
      return faults.crash_after_promise;
    case 'accepted':
      return faults.crash_after_accepted;
    case 'heartbeat_reply':
      return faults.crash_after_grant;
    default:
      return 0;
  }
}

/** After how long each copy of a message arrives, in milliseconds; none if it is lost. */
export function arrivals(faults: Faults, random: Random, type: Message['type'], healing: boolean): number[] {
  const { drop, duplicate, delay, delay_mean_ms, latency_ms } = faults;
  if (healing) return [latency_ms * random.between(0.5, 1.5)];
  if (random.chance(drop)) return [];
  const copies = random.chance(duplicate) ? 2 : 1;
  // A request to take over that comes again in another term would break a lease.
  const stale = type === 'take_over' ? 2 : 0;
  return Array.from({ length: copies + stale }, (_, copy) => {
    const late = copy >= copies || random.chance(delay) ? random.wait(delay_mean_ms) : 0;
    return latency_ms * random.between(0.5, 1.5) + late;
  });
}
