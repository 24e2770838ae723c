/**
 * Mistakes that an implementation could make, as changes to the compiled core, shell and log: a simulator that does not find
 * them proves nothing about the program that it passes.
 */
import { CORE_MUTANTS } from '../support/core_mutants.js';
import type { Mutant } from '../support/mutants.js';

export const MUTANTS: readonly Mutant[] = [
  ...CORE_MUTANTS,
  {
    name: 'what was handed to the log counts as durable',
    changes: [
      {
        file: 'paxos/log_writer.js',
        from: 'this.#portions.shift();',
        to: `this.#portions.shift();
            for (const [group, append] of portion.appends) this.#onDurable(group, append);`,
      },
    ],
  },
  {
    name: 'a restart forgets what was accepted',
    changes: [{ file: 'paxos/records.js', from: 'entries: [...above.values()]', to: 'entries: []' }],
  },
  {
    name: 'a restart forgets the promise',
    changes: [{ file: 'paxos/records.js', from: 'promised: promisedIn(log, group)', to: 'promised: NO_BALLOT' }],
  },
  {
    name: 'values that a restart keeps are applied though nobody knows that they were chosen',
    changes: [
      {
        file: 'paxos/records.js',
        from: 'chosen_through = Math.max(chosen_through, entry.chosen_through);',
        to: 'chosen_through = Math.max(chosen_through, instance);',
      },
    ],
  },
  {
    name: 'the machine may sleep without notice',
    changes: [{ file: 'paxos/clock_watch.js', from: 'jump_ms <= this.#tolerance_ms', to: 'true' }],
  },
  {
    name: 'the cache takes one group for another',
    changes: [
      {
        file: 'paxos/value_cache.js',
        from: 'this.#groups.get(group)?.get(instance)',
        to: 'this.#groups.get(0)?.get(instance)',
      },
    ],
  },
  {
    name: 'a replica votes before others found that its folder is not an older copy',
    changes: [
      {
        file: 'paxos/formation.js',
        from: 'if (this.#witnesses().length < this.#quorum - 1)\n            return;\n        this.#voting = true;',
        to: 'this.#voting = true;',
      },
    ],
  },
  {
    name: 'an older copy of a folder is not found out',
    changes: [
      {
        file: 'paxos/peer_memory.js',
        from: 'return start <= known.start || position < known.position;',
        to: 'return false;',
      },
    ],
  },
  {
    name: 'a replica on an empty folder takes itself for the founder that it was',
    changes: [
      {
        file: 'paxos/formation.js',
        from: 'const member = founders[place - 1] === this.#own.birth ? place : null;',
        to: 'const member = place;',
      },
    ],
  },
  {
    name: 'a replica that joins votes under the id of its predecessor',
    changes: [
      {
        file: 'paxos/formation.js',
        from: `const ids = this.#named.filter((id) => id !== null);
        if (ids.length === 0 || ids.length < this.#named.length)
            return;`,
        to: `const ids = this.#named.map(() => this.#config.place);
        if (ids.length === 0)
            return;`,
      },
      { file: 'paxos/peer_memory.js', from: 'peer.member >= member', to: 'false' },
      {
        file: 'paxos/senders.js',
        from: 'member.birth === birth || (member.birth === UNNAMED_BIRTH && founder) ? from : null',
        to: 'from',
      },
    ],
  },
  {
    name: 'a replica that joins votes before all groups name it',
    changes: [
      {
        file: 'paxos/formation.js',
        from: 'ids.length === 0 || ids.length < this.#named.length',
        to: 'ids.length === 0',
      },
    ],
  },
  {
    name: 'a folder that was replaced is not found out',
    changes: [{ file: 'paxos/peer_memory.js', from: 'peer.member >= member', to: 'false' }],
  },
  {
    name: 'a checkpoint forgets the checksum chain',
    changes: [{ file: 'paxos/records.js', from: 'chain: checkpoint?.record.chain ?? 0 }', to: 'chain: 0 }' }],
  },
  {
    name: 'the log is truncated to its checkpoint, though items before it are needed',
    changes: [
      {
        file: 'paxos/checkpoint_store.js',
        from: 'this.#log.truncate(group, record.first_retained);',
        to: 'this.#log.truncate(group, record.instance + 1);',
      },
    ],
  },
  {
    name: 'the log is truncated above what its checkpoint holds',
    changes: [
      {
        file: 'paxos/checkpoint_store.js',
        from: 'this.#log.truncate(group, record.first_retained);',
        to: 'this.#log.truncate(group, Math.max(record.first_retained, record.instance + 10));',
      },
    ],
  },
  {
    name: 'a checkpoint counts, and the log is truncated, before it is durable',
    changes: [
      {
        file: 'paxos/checkpoint_store.js',
        from: 'await appendDurably(this.#log, [{ kind: RecordKind.state, group, instance: SLOT_CHECKPOINT, body }]);',
        to: `void appendDurably(this.#log, [{ kind: RecordKind.state, group, instance: SLOT_CHECKPOINT, body }]).catch(() => {});`,
      },
    ],
  },
  {
    name: 'a group serves though entries are missing that its checkpoint needs',
    changes: [
      {
        file: 'paxos/restored_groups.js',
        from: 'if (gap !== null)\n                restored.standing_still.set(group, gap);',
        to: '',
      },
    ],
  },
  {
    name: 'the core goes on below the checkpoint that it was brought',
    changes: [
      {
        file: 'paxos/snapshots.js',
        from: "return { inputs: [{ type: 'snapshot_installed', snapshot }] };",
        to: 'return { inputs: [] };',
      },
    ],
  },
  {
    name: 'nothing is synced',
    changes: [{ file: 'wal/portable.js', from: 'if (this.sync) {', to: 'if (false) {' }],
  },
  {
    name: 'appends are reported before their sync',
    changes: [
      {
        file: 'wal/portable.js',
        from: 'if (this.sync) {',
        to: 'this.index(batch);\n        for (const done of batch.done.splice(0)) done(null);\n        if (this.sync) {',
      },
    ],
  },
  {
    name: 'a failed write is reported as done',
    changes: [{ file: 'wal/portable.js', from: 'else\n                    this.fail(error);', to: '' }],
  },
  {
    name: 'what recovery read is not made durable',
    changes: [
      {
        file: 'wal/portable_recovery.js',
        from: 'await file.writable.write([unsure], scan.end - unsure.length);\n            await file.writable.sync();',
        to: ';',
      },
    ],
  },
  {
    name: 'recovery syncs what it read without writing it again',
    changes: [
      {
        file: 'wal/portable_recovery.js',
        from: 'await file.writable.write([unsure], scan.end - unsure.length);',
        to: ';',
      },
    ],
  },
  {
    name: 'the marks are ignored',
    changes: [
      {
        file: 'wal/portable_recovery.js',
        from: 'const durable_end = durableEnd(id, ids, found?.record ?? null);',
        to: 'const durable_end = id === ids.at(-1) ? 0 : Number.POSITIVE_INFINITY;',
      },
    ],
  },
  {
    name: 'damage in the midst of a segment is taken for its end',
    changes: [{ file: 'wal/segment_scan.js', from: 'if (!wasDurable(at)) {', to: 'if (true) {' }],
  },
  {
    name: 'bodies are not verified',
    changes: [{ file: 'wal/segment_scan.js', from: "'link' : bodyFault(bytes, at, header)", to: "'link' : null" }],
  },
  {
    name: 'segments are removed before the marks say so',
    changes: [
      {
        file: 'wal/keeper.js',
        from: 'await marks.write(record);\n        this.marked = record.durable;\n        for',
        to: 'for',
      },
    ],
  },
  {
    name: 'the name of a new segment is not synced',
    changes: [
      {
        file: 'wal/spare_segments.js',
        from: 'join(folder, segmentName(id)));\n        await this.files.syncFolder(folder);',
        to: 'join(folder, segmentName(id)));',
      },
    ],
  },
  {
    name: 'a copy takes the place of its successor',
    changes: [
      { file: 'wal/portable.js', from: 'if (copied_from !== 0 &&', to: 'if (false &&' },
      { file: 'wal/keeper.js', from: 'living.filter((record) => !waiting.has(record))', to: 'living' },
    ],
  },
  {
    name: 'a segment is removed though something lives in it',
    changes: [{ file: 'wal/contents.js', from: 'return live_records === 0 &&', to: 'return live_records <= 1 &&' }],
  },
];
