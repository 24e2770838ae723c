/**
 * Checkpoints that travel between replicas, for all groups of a node: offers the own ones, takes in those of others, fetches
 * the entries that they need, and puts the state machine where they say. From the writing of a foreign checkpoint until
 * its state is there, however often the process is started in between, the group stands still: its core takes no part, and
 * nobody is served from it.
 */
import { assert, PhxError } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import { Backfill } from './backfill.js';
import type { PeerMessage } from './codec.js';
import { decodeConfigurations } from './configurations.js';
import type { Input } from './core/types.js';
import { placeOf } from './places.js';
import type { Gap } from './records.js';
import type { RestoredGroups } from './restored_groups.js';
import type { SnapshotMessage } from './snapshot_messages.js';
import { DEFAULT_SNAPSHOT_SENDER_OPTIONS, SnapshotReceiver, SnapshotSender } from './snapshot_transfer.js';
import type { TransportLogger } from './transport.js';

export interface SnapshotsParts {
  readonly log: LogEngine;
  readonly restored: RestoredGroups;
  /** Of this replica. */
  readonly place: number;
  readonly logger: TransportLogger;
  /** Bytes of a checkpoint in one message. */
  readonly part_bytes_max: number;
  readonly monotonic_ms: () => number;
  readonly send: (to: number, group: number, message: PeerMessage) => void;
  /** The group stands still from now on. Resolves when all that its core wrote is durable. */
  readonly settle: (group: number) => Promise<void>;
  /** The group goes on, with these inputs before any other. */
  readonly goOn: (group: number, inputs: readonly Input[]) => void;
  /** The replica has to stop. */
  readonly onFailure: (error: unknown) => void;
}

/** A group that stands still. */
interface Standstill {
  /** Its checkpoint is written, the state machine is restored from it, or entries for that are fetched. */
  phase: 'installing' | 'restoring' | 'filling';
  /** The core was there before and goes on; else it begins with what the log holds. */
  readonly goes_on: boolean;
  backfill: Backfill | null;
  /** The member that is asked for entries; null: whoever comes first. */
  source: number | null;
  /** Inputs that the core has to hear of nevertheless, in their order. */
  readonly missed: Input[];
}

export class Snapshots {
  readonly #parts: SnapshotsParts;
  readonly #sender: SnapshotSender;
  readonly #receiver: SnapshotReceiver;
  readonly #standstills = new Map<number, Standstill>();
  #closed = false;

  constructor(parts: SnapshotsParts) {
    const { restored, send, logger, part_bytes_max } = parts;
    this.#parts = parts;
    const onUnreadable = (group: number, error: unknown): void => {
      if (!this.#closed) logger.warn(`group ${group}: the own checkpoint cannot be read: ${String(error)}`);
    };
    const options = { ...DEFAULT_SNAPSHOT_SENDER_OPTIONS, part_bytes_max };
    this.#sender = new SnapshotSender(restored.checkpoints, send, onUnreadable, options);
    this.#receiver = new SnapshotReceiver({
      store: restored.checkpoints,
      send,
      appliedThrough: (group) => this.#appliedThrough(group),
      prepare: (group, instance) => this.#prepare(group, instance),
      onInstalled: (group, from) => this.#installed(group, from),
      onFailure: (error) => this.#fail(error),
      warn: (line) => logger.warn(line),
    });
    for (const [group, gap] of restored.standing_still) {
      const standstill = newStandstill('filling', false);
      this.#standstills.set(group, standstill);
      if (gap !== null) this.#fill(group, standstill, gap);
    }
  }

  /** Whether the group waits for its state. */
  standsStill(group: number): boolean {
    return this.#standstills.has(group);
  }

  /** A replica needs what the log no longer has. False: there is nothing to offer. */
  offer(to: number, group: number): boolean {
    return this.#sender.offer(to, group, this.#parts.monotonic_ms());
  }

  receive(from: number, group: number, message: SnapshotMessage): void {
    const now_ms = this.#parts.monotonic_ms();
    switch (message.type) {
      case 'snapshot_offer':
        this.#onOffer(from, group, message, now_ms);
        break;
      case 'snapshot_fetch':
        this.#sender.onFetch(from, group, message, now_ms);
        break;
      case 'snapshot_part':
        this.#receiver.onPart(from, group, message, now_ms);
        break;
    }
  }

  /** Takes in what the core of a group that stands still does not hear. */
  missed(group: number, input: Input): void {
    const standstill = this.#standstills.get(group);
    assert(standstill !== undefined, 'the group stands still');
    const { missed } = standstill;
    if (input.type === 'durable' || input.type === 'clock_jump') {
      // The last one says it all.
      if (missed.at(-1)?.type === input.type) missed.pop();
      missed.push(input);
    } else if (input.type === 'voting' || input.type === 'named') {
      missed.push(input);
    } else if (input.type === 'message' && input.message.type === 'learn') {
      standstill.backfill?.onLearn(input.message.entries, this.#parts.monotonic_ms());
    }
  }

  tick(): void {
    const now_ms = this.#parts.monotonic_ms();
    this.#sender.tick(now_ms);
    this.#receiver.tick(now_ms);
    for (const { backfill } of this.#standstills.values()) backfill?.tick(now_ms);
  }

  /** Nothing is offered, taken in or restored any more. */
  close(): void {
    this.#closed = true;
    this.#sender.close();
    for (const { backfill } of this.#standstills.values()) backfill?.close();
  }

  #onOffer(from: number, group: number, { head }: SnapshotMessage & { type: 'snapshot_offer' }, now_ms: number): void {
    const before = this.#receiver.progress(group);
    this.#receiver.onOffer(from, group, head, now_ms);
    const now = this.#receiver.progress(group);
    if (now === null || before?.from === now.from) return;
    const what = `the checkpoint of instance ${now.instance}, of which ${now.have_bytes} of ${now.total_bytes} bytes are here`;
    this.#parts.logger.info(`group ${group}: ${what}, comes from replica ${placeOf(now.from)}`);
  }

  #appliedThrough(group: number): number {
    const { restored } = this.#parts;
    const { applied_through } = restored.at(group);
    if (!this.#standstills.has(group)) return applied_through;
    return Math.max(applied_through, restored.checkpoints.record(group)?.instance ?? 0);
  }

  async #prepare(group: number, instance: number): Promise<boolean> {
    const standstill = this.#standstills.get(group);
    if (this.#closed || instance <= this.#appliedThrough(group)) return false;
    if (standstill === undefined) {
      this.#begin(group, newStandstill('installing', true));
      // What the core has written must not come after what is fetched for the checkpoint.
      await this.#parts.settle(group);
      return !this.#closed;
    }
    // While the state machine is restored from an older one nothing of that may go; afterwards this is offered again.
    if (standstill.phase === 'restoring') return false;
    standstill.backfill?.close();
    standstill.backfill = null;
    standstill.phase = 'installing';
    return true;
  }

  #begin(group: number, standstill: Standstill): void {
    this.#standstills.set(group, standstill);
    this.#parts.restored.standing_still.set(group, null);
  }

  #installed(group: number, from: number): void {
    const standstill = this.#standstills.get(group);
    assert(standstill?.phase === 'installing', 'a checkpoint is installed where the group stands still for it');
    standstill.source = from;
    this.#restore(group, standstill);
  }

  #restore(group: number, standstill: Standstill): void {
    standstill.phase = 'restoring';
    standstill.backfill = null;
    const restored = standstill.goes_on ? this.#restoreState(group) : this.#restoreGroup(group);
    restored
      .then((result) => {
        if (this.#closed) return;
        if ('gap' in result) this.#fill(group, standstill, result.gap);
        else this.#goOn(group, standstill, result.inputs);
      })
      .catch((error: unknown) => this.#fail(error));
  }

  /** Replaces the state below a core that goes on. */
  async #restoreState(group: number): Promise<{ gap: Gap } | { inputs: Input[] }> {
    const { checkpoint, gap } = await this.#parts.restored.restoreCheckpoint(group);
    if (gap !== null) return { gap };
    assert(checkpoint !== null, 'a group stands still for a checkpoint');
    const { instance: through, chain, first_needed: retained_from } = checkpoint.record;
    const configurations = decodeConfigurations(checkpoint.payload.configurations);
    const snapshot = { through, chain, configurations, retained_from };
    return { inputs: [{ type: 'snapshot_installed', snapshot }] };
  }

  /** Begins a group as a start does. */
  async #restoreGroup(group: number): Promise<{ gap: Gap } | { inputs: Input[] }> {
    const { core, gap } = await this.#parts.restored.restore(group);
    if (gap !== null) return { gap };
    if (!this.#closed) this.#parts.restored.begin(group, core);
    return { inputs: [] };
  }

  #fill(group: number, standstill: Standstill, gap: Gap): void {
    const { log, logger, restored, send } = this.#parts;
    const checkpoint = restored.checkpoints.record(group);
    const foreign = checkpoint !== null && gap.from > checkpoint.own_through && gap.through <= checkpoint.instance;
    const why = foreign ? 'which its checkpoint needs' : 'which are damaged';
    const what = `instances ${gap.from} to ${gap.through}, ${why}, are fetched`;
    logger.info(`group ${group}: ${what}; it takes no part until then`);
    standstill.phase = 'filling';
    standstill.backfill = new Backfill({
      log,
      group,
      gap,
      ask: (from, through, again) => {
        if (again || standstill.source === null) standstill.source = this.#sourceAfter(group, standstill.source);
        if (standstill.source !== null) send(standstill.source, group, { type: 'fetch', from, through });
      },
      onDone: () => this.#restore(group, standstill),
      onFailure: (error) => this.#fail(error),
    });
  }

  /** The member at another place that is asked after this one, null if there is none. */
  #sourceAfter(group: number, source: number | null): number | null {
    const { restored, place } = this.#parts;
    const others = restored.membersToAsk(group).filter((id) => placeOf(id) !== place);
    return others[(source === null ? 0 : others.indexOf(source) + 1) % others.length] ?? null;
  }

  #goOn(group: number, { missed }: Standstill, inputs: readonly Input[]): void {
    const { restored, logger, goOn } = this.#parts;
    this.#standstills.delete(group);
    restored.standing_still.delete(group);
    const instance = restored.checkpoints.record(group)?.instance ?? 0;
    logger.info(`group ${group}: goes on behind the checkpoint of instance ${instance}`);
    goOn(group, [...inputs, ...missed]);
  }

  #fail(error: unknown): void {
    // A log that is closed with the node.
    if (this.#closed && error instanceof PhxError) return;
    this.#parts.onFailure(error);
  }
}

function newStandstill(phase: Standstill['phase'], goes_on: boolean): Standstill {
  return { phase, goes_on, backfill: null, source: null, missed: [] };
}
