/** Three replicas with the state machine of a store in this process, over real sockets and files. */
import { cpSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import type { GroupMessage } from '../../src/ts/paxos/codec.js';
import { DEFAULT_CORE_OPTIONS } from '../../src/ts/paxos/core/types.js';
import { logIdentity } from '../../src/ts/paxos/identity.js';
import type { Caller } from '../../src/ts/paxos/incoming.js';
import { PaxosNode } from '../../src/ts/paxos/node.js';
import type { Replica } from '../../src/ts/paxos/replicated_log.js';
import { PROCESS_RUNTIME } from '../../src/ts/paxos/runtime.js';
import { encodeAdd, encodeCursors } from '../../src/ts/store/command.js';
import { StoreStateMachine } from '../../src/ts/store/state_machine.js';
import { trimQueues } from '../../src/ts/store/trim.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { freePorts, HOST, until } from '../paxos/sockets.js';
import { addBody, testItem } from './requests.js';

export const QUEUES = 60;
const CONSUMER_GROUP = 1;
const CHECKPOINT_MS = 20;

interface Running {
  readonly node: PaxosNode;
  readonly log: LogEngine;
  readonly machine: StoreStateMachine;
}

/** What becomes of a message; null: it is lost. */
export type Filter = (from: number, to: number, received: GroupMessage) => GroupMessage | null;

export class Replicas {
  readonly #folder: string;
  readonly #replicas: readonly Replica[];
  readonly running = new Map<number, Running>();
  readonly lines: string[] = [];
  readonly failures: Error[] = [];
  filter: Filter = (_from, _to, received) => received;
  #added = 0;

  private constructor(folder: string, replicas: readonly Replica[]) {
    this.#folder = folder;
    this.#replicas = replicas;
  }

  static async start(t: ExecutionContext): Promise<Replicas> {
    const folder = mkdtempSync(join(tmpdir(), 'phxqueue-replicas-'));
    const ports = await freePorts(3);
    const made = new Replicas(
      folder,
      ports.map((paxos_port, index) => ({ id: index + 1, host: HOST, paxos_port })),
    );
    t.teardown(async () => {
      for (const id of [...made.running.keys()]) await made.stop(id);
      rmSync(folder, { recursive: true, force: true });
      if (made.failures.length > 0) throw new Error(`failures: ${made.failures.join('; ')}`);
    });
    for (const id of [1, 2, 3]) await made.start(id);
    return made;
  }

  at(id: number): Running {
    const running = this.running.get(id);
    if (running === undefined) throw new Error(`replica ${id} does not run`);
    return running;
  }

  async start(id: number): Promise<void> {
    const identity = { cluster: 'test/store/1', replica: id, groups: 1 };
    const log = await openLog({ engine: 'portable', folder: this.#folderOf(id), identity: logIdentity(identity) });
    const machine = new StoreStateMachine(1);
    const node = await PaxosNode.start({
      identity,
      replicas: this.#replicas,
      listen_host: HOST,
      log,
      stateMachine: machine,
      core: DEFAULT_CORE_OPTIONS,
      checkpoints: { instances_min: 1, bytes_min: 1, held_instances_max: 0, held_bytes_max: 0 },
      propose_timeout_ms: 20_000,
      logger: { info: (line) => this.lines.push(`${id} ${line}`), warn: (line) => this.lines.push(`${id} ${line}`) },
      // Small, so that there are several of each.
      limits: {
        value_cache_bytes_max: 100_000,
        learn_bytes_max: 10_000,
        part_bytes_max: 500,
        portion_bytes_max: 1_000_000,
      },
      runtime: {
        ...PROCESS_RUNTIME,
        connect: (options) => {
          const receive = (from: Caller, received: GroupMessage): void => {
            const passed = this.filter(from.place, id, received);
            if (passed !== null) options.receive(from, passed);
          };
          return PROCESS_RUNTIME.connect({ ...options, receive });
        },
      },
      onFailure: (error) => this.failures.push(error),
    });
    this.running.set(id, { node, log, machine });
  }

  async stop(id: number): Promise<void> {
    const { node, log } = this.at(id);
    this.running.delete(id);
    await node.close();
    await log.close();
  }

  /** The process dies: what is found at the next start was never closed. */
  async crash(id: number): Promise<void> {
    const { node, log } = this.at(id);
    this.running.delete(id);
    await node.close();
    const folder = this.#folderOf(id);
    cpSync(folder, `${folder}.crashed`, { recursive: true, filter: (path) => !/^lock-/.test(basename(path)) });
    await log.close();
    rmSync(folder, { recursive: true });
    renameSync(`${folder}.crashed`, folder);
  }

  master(): Promise<number> {
    return until(() => [...this.running].find(([, { node }]) => node.mastership(0).role === 'master')?.[0]);
  }

  /** Adds an item to a queue, with whoever leads. */
  async add(): Promise<void> {
    this.#added += 1;
    const queue_id = this.#added % QUEUES;
    await this.#propose(encodeAdd(1, addBody(queue_id, [testItem(`item ${this.#added} ${'x'.repeat(100)}`)])));
  }

  /** One after the other, so that each is an instance. */
  async addAll(count: number): Promise<void> {
    for (let added = 0; added < count; added += 1) await this.add();
  }

  /** All consumers acknowledge all but the newest `but` items. */
  async acknowledge(but: number): Promise<void> {
    const { machine } = this.at(await this.master());
    const prev = machine.lastCursor(0) - but;
    const queues = Array.from({ length: QUEUES }, (_, queue_id) => queue_id);
    const updates = queues.map((queue_id) => ({ queue_id, consumer_group: CONSUMER_GROUP, prev }));
    if (prev > 0) await this.#propose(encodeCursors(updates));
  }

  /** All that run let go of what was acknowledged, and make a checkpoint. */
  async checkpoint(): Promise<void> {
    for (const { node, machine } of [...this.running.values()]) {
      trim(machine);
      await node.checkpoint();
    }
  }

  /** Adds, acknowledges and makes checkpoints until the result is called. */
  load(): () => Promise<void> {
    let ends = false;
    const repeat = async (work: () => Promise<void>): Promise<void> => {
      while (!ends) await work();
    };
    const adding = [1, 2, 3, 4].map(() => repeat(() => this.add()));
    const others = [
      repeat(() => this.acknowledge(20)),
      repeat(() => this.checkpoint().then(() => delay(CHECKPOINT_MS))),
    ];
    return async () => {
      ends = true;
      await Promise.all([...adding, ...others]);
    };
  }

  /** Until those that run applied the same. */
  async settled(): Promise<void> {
    await until(() => {
      const applied = new Set([...this.running.values()].map(({ node }) => node.appliedThrough(0)));
      const still = [...this.running.values()].some(({ node }) => node.status(0).stands_still);
      return applied.size === 1 && !still ? true : undefined;
    });
  }

  #folderOf(id: number): string {
    return join(this.#folder, String(id));
  }

  async #propose(command: readonly Uint8Array[]): Promise<void> {
    for (;;) {
      const { node } = this.at(await this.master());
      try {
        await node.propose(0, command);
        return;
      } catch (error) {
        if (!(error instanceof PhxError) || !(error.retryable || error.code === 'CLOSED')) throw error;
      }
    }
  }
}

export function trim(machine: StoreStateMachine): void {
  trimQueues(machine.queues(), () => [CONSUMER_GROUP], 0);
}
