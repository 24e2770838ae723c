import { PhxError } from '../../src/ts/errors.js';
import type {
  Applied,
  Command,
  Mastership,
  Replica,
  ReplicatedLog,
  StateMachine,
} from '../../src/ts/paxos/replicated_log.js';

interface Waiting {
  readonly bytes: Buffer;
  readonly resolve: (applied: Applied) => void;
}

/**
 * A replicated log of one replica in memory. As the real one does, it puts all proposals that wait into one instance,
 * behind bytes of its own, and applies them at once. Knobs play followers, lost leases and failed proposals.
 */
export class MemoryLog implements ReplicatedLog {
  readonly self = 1;
  readonly replicas: readonly Replica[];
  readonly groups: number;
  /** What `mastership` says; a function can count calls or change its mind. */
  role: () => Mastership = () => ({ role: 'master' });
  /** What the next proposals fail with. */
  failure: PhxError | null = null;
  /** True makes reads asynchronous, as those from disk are. */
  slow_reads = false;
  /** Instances whose value cannot be read. */
  readonly corrupt = new Set<number>();
  proposals = 0;
  readonly #machine: StateMachine;
  readonly #values: Map<number, Buffer>[];
  readonly #waiting: Waiting[][];

  constructor(machine: StateMachine, groups: number, replicas: readonly Replica[]) {
    this.#machine = machine;
    this.groups = groups;
    this.replicas = replicas;
    this.#values = Array.from({ length: groups }, () => new Map<number, Buffer>());
    this.#waiting = Array.from({ length: groups }, () => []);
  }

  mastership(): Mastership {
    return this.role();
  }

  propose(group: number, command: readonly Uint8Array[]): Promise<Applied> {
    this.proposals += 1;
    if (this.failure !== null) return Promise.reject(this.failure);
    const bytes = Buffer.concat(command);
    return new Promise((resolve) => {
      const waiting = this.#waiting[group];
      if (waiting === undefined) throw new Error(`no group ${group}`);
      waiting.push({ bytes, resolve });
      if (waiting.length === 1) setImmediate(() => this.#choose(group));
    });
  }

  value(group: number, instance: number): Uint8Array | Promise<Uint8Array> {
    const value = this.#values[group]?.get(instance);
    if (value === undefined || this.corrupt.has(instance)) {
      return Promise.reject(new PhxError('LOG_CORRUPT', `instance ${instance} of group ${group} cannot be read`));
    }
    if (!this.slow_reads) return value;
    return new Promise((resolve) => setImmediate(resolve, value));
  }

  appliedThrough(group: number): number {
    return this.#values[group]?.size ?? 0;
  }

  /** Applies all values to another state machine, as a restarted replica does. */
  replay(machine: StateMachine): void {
    for (const [group, values] of this.#values.entries()) {
      for (const [instance, value] of values) machine.apply(group, instance, commandsOf(value));
    }
  }

  #choose(group: number): void {
    const waiting = this.#waiting[group]?.splice(0) ?? [];
    const instance = this.appliedThrough(group) + 1;
    const value = Buffer.concat(waiting.flatMap(({ bytes }) => [lengthOf(bytes), bytes]));
    this.#values[group]?.set(instance, value);
    const results = this.#machine.apply(group, instance, commandsOf(value));
    for (const [i, { resolve }] of waiting.entries()) resolve({ instance, result: results[i] });
  }
}

function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return length;
}

function commandsOf(value: Buffer): Command[] {
  const commands: Command[] = [];
  let at = 0;
  while (at < value.length) {
    const offset = at + 4;
    at = offset + value.readUInt32LE(at);
    commands.push({ bytes: value.subarray(offset, at), offset });
  }
  return commands;
}
