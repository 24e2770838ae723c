/** Three replicas in one process, over real sockets and files. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { DEFAULT_CORE_OPTIONS } from '../../src/ts/paxos/core/types.js';
import { type Identity, logIdentity } from '../../src/ts/paxos/identity.js';
import { PaxosNode } from '../../src/ts/paxos/node.js';
import type { Command, Replica, StateMachine } from '../../src/ts/paxos/replicated_log.js';
import { PROCESS_RUNTIME } from '../../src/ts/paxos/runtime.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { freePorts, HOST, until } from './sockets.js';

/** The command at which a recorder fails. */
export const POISON = Buffer.from('poison');

/** Remembers what it applied. */
export class Recorder implements StateMachine {
  readonly applied: string[] = [];

  apply(_group: number, _instance: number, commands: readonly Command[]): readonly unknown[] {
    return commands.map(({ bytes }) => {
      if (Buffer.from(bytes).equals(POISON)) throw new Error('cannot be applied');
      this.applied.push(Buffer.from(bytes).toString());
      return this.applied.length;
    });
  }

  /** It remembers every command in its snapshot, so nothing of the log is needed. */
  snapshot(): Uint8Array[] {
    return [Buffer.from(JSON.stringify(this.applied))];
  }

  retention(): Uint8Array[] {
    return [];
  }

  firstNeeded(): number {
    return Number.POSITIVE_INFINITY;
  }

  restore(group: number, snapshot: Uint8Array): void {
    if (group !== 0) return;
    this.applied.splice(0, this.applied.length, ...JSON.parse(Buffer.from(snapshot).toString()));
  }

  reindex(): void {
    throw new Error('nothing is needed');
  }

  restored(): void {}
}

export interface Running {
  readonly node: PaxosNode;
  readonly log: LogEngine;
  readonly recorder: Recorder;
}

export class Cluster {
  readonly folder: string;
  readonly replicas: readonly Replica[];
  readonly running = new Map<number, Running>();
  groups = 2;
  core = DEFAULT_CORE_OPTIONS;
  /** Every instance is worth a checkpoint, nothing is held for others. */
  checkpoints = { instances_min: 1, bytes_min: 1, held_instances_max: 0, held_bytes_max: 0 };
  /** What a replica takes for its log. */
  logOf = (_replica: number, log: LogEngine): LogEngine => log;
  /** By how much the wall clock of all was set ahead. */
  wall_ahead_ms = 0;
  readonly masterless: number[] = [];
  readonly warnings: string[] = [];
  readonly infos: string[] = [];
  readonly failures: Error[] = [];
  failures_expected = 0;

  constructor(folder: string, replicas: readonly Replica[]) {
    this.folder = folder;
    this.replicas = replicas;
  }

  identity(replica: number): Identity {
    return { cluster: 'test/store/1', replica, groups: this.groups };
  }

  async start(...replicas: number[]): Promise<void> {
    for (const replica of replicas) {
      const identity = this.identity(replica);
      const folder = this.folderOf(replica);
      const opened = await openLog({ engine: 'portable', folder, identity: logIdentity(identity) });
      const log = this.logOf(replica, opened);
      const recorder = new Recorder();
      const node = await PaxosNode.start({
        identity,
        replicas: this.replicas,
        listen_host: HOST,
        log,
        stateMachine: recorder,
        core: this.core,
        checkpoints: this.checkpoints,
        propose_timeout_ms: 20_000,
        runtime: { ...PROCESS_RUNTIME, wall_ms: () => Date.now() + this.wall_ahead_ms },
        logger: { info: (line) => this.infos.push(line), warn: (line) => this.warnings.push(line) },
        onNoMaster: () => this.masterless.push(replica),
        onFailure: (error) => this.failures.push(error),
      });
      this.running.set(replica, { node, log, recorder });
    }
  }

  async stop(...replicas: number[]): Promise<void> {
    for (const replica of replicas) {
      const { node, log } = this.at(replica);
      this.running.delete(replica);
      await node.close();
      await log.close();
    }
  }

  folderOf(replica: number): string {
    return join(this.folder, String(replica));
  }

  at(replica: number): Running {
    const running = this.running.get(replica);
    if (running === undefined) throw new Error(`replica ${replica} does not run`);
    return running;
  }

  async master(): Promise<number> {
    return until(() => [...this.running].find(([, { node }]) => node.mastership(0).role === 'master')?.[0]);
  }

  /** Proposes at whoever leads until it succeeds. */
  async propose(text: string): Promise<void> {
    for (;;) {
      const { node } = this.at(await this.master());
      try {
        await node.propose(0, [Buffer.from(text)]);
        return;
      } catch (error) {
        if (!(error instanceof PhxError) || !error.retryable) throw error;
      }
    }
  }
}

export async function cluster(t: ExecutionContext): Promise<Cluster> {
  const folder = mkdtempSync(join(tmpdir(), 'phxqueue-node-'));
  const ports = await freePorts(3);
  const replicas = ports.map((paxos_port, index) => ({ id: index + 1, host: HOST, paxos_port }));
  const made = new Cluster(folder, replicas);
  t.teardown(async () => {
    await made.stop(...made.running.keys());
    if (made.failures.length !== made.failures_expected) throw new Error(`failures: ${made.failures.join('; ')}`);
    rmSync(folder, { recursive: true, force: true });
  });
  return made;
}

/** Waits until a replica votes. */
export async function votes(three: Cluster, replica: number): Promise<void> {
  await until(() => (three.at(replica).node.obstacle === '' ? true : undefined));
}

export const all = [1, 2, 3] as const;
