/** What can go wrong in one run, and how often: all drawn from the seed. A kind of fault is absent from about half of the runs. */

import type { CheckpointOptions } from '../../src/ts/paxos/checkpointer.js';
import { type CoreOptions, DEFAULT_CORE_OPTIONS } from '../../src/ts/paxos/core/types.js';
import type { NodeLimits } from '../../src/ts/paxos/node_options.js';
import type { Random } from './random.js';

/** Times are means in milliseconds; infinite for what never happens. The others are probabilities. */
export interface Faults {
  readonly drop: number;
  readonly duplicate: number;
  readonly delay: number;
  readonly delay_mean_ms: number;
  readonly latency_ms: number;
  readonly partition_mean_ms: number;
  readonly clog_mean_ms: number;
  readonly crash_mean_ms: number;
  /** A machine that crashed stays away for at most about so long. */
  readonly down_max_ms: number;
  /** A crash is a power cut of the machine; else only the process dies, and what it wrote is still to be read. */
  readonly power_cut: number;
  readonly clean_restart_mean_ms: number;
  /** Crashes of the sender right after such a message has left, and of all after an acknowledgement. */
  readonly crash_after_promise: number;
  readonly crash_after_accepted: number;
  readonly crash_after_grant: number;
  readonly power_cut_after_acknowledgement: number;
  /** Crashes at a creation, renaming, removal or sync of names, and between a write and its sync. */
  readonly crash_at_name: number;
  readonly crash_at_sync: number;
  readonly pause_mean_ms: number;
  readonly sleep_mean_ms: number;
  readonly clock_set_mean_ms: number;
  /** Monotonic clocks run so much too fast or slow at most. */
  readonly drift: number;
  readonly sync_mean_ms: number;
  /** A sync that takes a hundred times as long. */
  readonly stall: number;
  readonly slow_disk_mean_ms: number;
  readonly write_error: number;
  readonly sync_error: number;
  readonly full_disk_mean_ms: number;
  /** Damage of durable data, found at the start after a crash. */
  readonly damage: number;
  /** Of a minority of the replicas at a time: the folder is lost, or one of before an earlier start is put in its place. */
  readonly wipe: number;
  readonly old_copy: number;
}

export interface Load {
  readonly propose_mean_ms: number;
  readonly item_bytes_max: number;
  readonly read_mean_ms: number;
  /** Of the consumers that acknowledge: those that have kept up in all queues. */
  readonly keeps_up: number;
  readonly ballast_mean_ms: number;
  readonly checkpoint_mean_ms: number;
}

/** Everything that is drawn before a run begins. */
export interface Plan {
  readonly replicas: number;
  readonly groups: number;
  readonly core: CoreOptions;
  readonly limits: NodeLimits;
  readonly checkpoints: CheckpointOptions;
  readonly segment_bytes: number;
  readonly faults: Faults;
  readonly load: Load;
}

const NEVER = Number.POSITIVE_INFINITY;

export function drawPlan(random: Random): Plan {
  const lease_ms = random.pick([300, 300, 1_000]);
  return {
    replicas: random.pick([3, 3, 3, 5]),
    groups: random.pick([1, 1, 2]),
    core: {
      ...DEFAULT_CORE_OPTIONS,
      lease_ms,
      lease_margin_ms: lease_ms / 20,
      heartbeat_ms: lease_ms / 5,
      window_max: random.pick([1, 4, 16]),
      batch_bytes_max: random.pick([1_024, 8_192]),
      command_bytes_max: 16_384,
      waiting_max: random.pick([20, 100_000]),
      accepted_ahead_bytes_max: random.pick([32_768, DEFAULT_CORE_OPTIONS.accepted_ahead_bytes_max]),
    },
    limits: {
      value_cache_bytes_max: random.pick([1_000, 20_000]),
      learn_bytes_max: random.pick([4_096, 32_768]),
      part_bytes_max: random.pick([40, 4_096]),
      portion_bytes_max: random.pick([2_048, 8_192]),
    },
    checkpoints: {
      instances_min: random.pick([1, 20, 200]),
      bytes_min: random.pick([1_000, 100_000]),
      held_instances_max: random.pick([0, 200]),
      held_bytes_max: random.pick([10_000, 1_000_000]),
    },
    segment_bytes: random.pick([64, 64, 128, 256]) * 1_024,
    faults: drawFaults(random),
    load: {
      propose_mean_ms: random.pick([10, 30, 60]),
      item_bytes_max: random.pick([60, 300, 2_000]),
      read_mean_ms: random.pick([50, 200]),
      keeps_up: random.pick([0, 0.5, 1]),
      ballast_mean_ms: random.pick([100, 300]),
      checkpoint_mean_ms: random.pick([200, 1_000, 5_000]),
    },
  };
}

function drawFaults(random: Random): Faults {
  const mean = (low_ms: number, high_ms: number): number =>
    random.chance(0.5) ? random.between(low_ms, high_ms) : NEVER;
  const rate = (high: number): number => (random.chance(0.5) ? random.between(0, high) : 0);
  return {
    drop: rate(0.2),
    duplicate: rate(0.1),
    delay: rate(0.1),
    delay_mean_ms: random.pick([100, 1_000]),
    latency_ms: random.pick([0.1, 0.5, 2, 20]),
    partition_mean_ms: mean(1_000, 15_000),
    clog_mean_ms: mean(1_000, 10_000),
    crash_mean_ms: mean(1_000, 15_000),
    down_max_ms: random.pick([1_000, 1_000, 1_000, 10_000]),
    power_cut: random.pick([0, 0.5, 1]),
    clean_restart_mean_ms: mean(5_000, 30_000),
    crash_after_promise: random.pick([0, 0.1, 0.5]),
    crash_after_accepted: rate(0.004),
    crash_after_grant: rate(0.01),
    power_cut_after_acknowledgement: rate(0.002),
    crash_at_name: rate(0.02),
    crash_at_sync: rate(0.002),
    pause_mean_ms: mean(1_000, 15_000),
    sleep_mean_ms: mean(1_000, 15_000),
    clock_set_mean_ms: mean(2_000, 20_000),
    drift: random.between(0.02, 0.05),
    sync_mean_ms: random.pick([0.2, 1, 5]),
    stall: random.pick([0, 0, 0.005]),
    slow_disk_mean_ms: mean(5_000, 30_000),
    write_error: random.chance(0.25) ? random.between(0, 0.001) : 0,
    sync_error: random.chance(0.25) ? random.between(0, 0.001) : 0,
    full_disk_mean_ms: mean(5_000, 30_000),
    damage: random.chance(0.25) ? 0.25 : 0,
    wipe: random.chance(0.25) ? 0.1 : 0,
    old_copy: random.chance(0.25) ? 0.5 : 0,
  };
}
