/** A replica of a script, and what its disk gives back. */
import { crc32 } from 'node:zlib';
import { NO_BALLOT } from '../../../src/ts/paxos/core/ballot.js';
import type { Group } from '../../../src/ts/paxos/core/group.js';
import { Members } from '../../../src/ts/paxos/core/members.js';
import type { Restored } from '../../../src/ts/paxos/core/state.js';
import type { LogWrite, Snapshot } from '../../../src/ts/paxos/core/types.js';
import { rosterOf } from '../../../src/ts/paxos/core/value.js';
import { founded } from './probe.js';
import { commandTexts } from './script_text.js';

export class ScriptNode {
  readonly id: number;
  group: Group | null = null;
  /** Appends that are not durable yet. */
  pending: { readonly append: number; readonly writes: readonly LogWrite[] }[] = [];
  readonly disk = new Map<string, LogWrite>();
  /** The state at the beginning of the log, and what had been applied then. */
  base: { readonly snapshot: Snapshot; readonly applied: readonly string[] } = {
    snapshot: { through: 0, chain: 0, configurations: [founded([1, 2, 3])], retained_from: 1 },
    applied: [],
  };
  readonly applied: string[] = [];
  voting = true;
  paused = false;
  /** The next start reads a value wrongly. */
  misreads = false;

  constructor(id: number) {
    this.id = id;
  }

  sync(): void {
    for (const { writes } of this.pending) {
      for (const write of writes) {
        this.disk.set(write.type === 'entry' ? `entry ${write.instance}` : write.type, write);
      }
    }
    this.pending = [];
  }

  /** Begins the log anew, with the own state or another's. */
  rebase(base: ScriptNode['base']): void {
    this.base = base;
    for (const [key, write] of this.disk) {
      if (write.type === 'entry' && write.instance <= base.snapshot.through) this.disk.delete(key);
    }
  }

  /** Reads the disk, up to the first value that is known to be chosen and missing. */
  restore(): Restored {
    const promise = this.disk.get('promise');
    const grant = this.disk.get('longest_grant');
    const entries = [...this.disk.values()].flatMap((write) => (write.type === 'entry' ? [write] : []));
    const { snapshot, applied } = this.base;
    this.applied.splice(0, this.applied.length, ...applied);
    const known_through = Math.max(snapshot.through, ...entries.map((entry) => entry.chosen_through));
    const members = new Members(0, snapshot.configurations);
    let { through, chain } = snapshot;
    for (let entry = this.disk.get(`entry ${through + 1}`); entry?.type === 'entry' && through < known_through; ) {
      through += 1;
      this.applied.push(...commandTexts(entry.value));
      chain = crc32(entry.value, chain);
      const roster = rosterOf(entry.value);
      if (roster !== null) members.learn(through, roster);
      members.forget(through);
      entry = this.disk.get(`entry ${through + 1}`);
    }
    return {
      promised: promise?.type === 'promise' ? promise.ballot : NO_BALLOT,
      longest_grant_ms: grant?.type === 'longest_grant' ? grant.lease_ms : 0,
      chosen_through: through,
      chain: this.misreads ? (chain ^ 1) >>> 0 : chain,
      configurations: members.list,
      known_through,
      entries: entries.filter(({ instance }) => instance > through),
      retained_from: snapshot.through + 1,
    };
  }
}
