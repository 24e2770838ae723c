/**
 * Mistakes that an implementation could make, as changes to the compiled core, shell and log: a simulator that does not find
 * them proves nothing about the program that it passes.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A change of one compiled file of src/ts; each text must be there exactly once. */
interface Change {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface Mutant {
  readonly name: string;
  readonly changes: readonly Change[];
}

const NO_ASSERTION: Change = {
  file: 'paxos/core/acceptor.js',
  from: "assert(ballot >= state.promised, 'no ballot below the promise is accepted');",
  to: '',
};

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'an acceptance is told before it is durable',
    changes: [
      {
        file: 'paxos/core/acceptor.js',
        from: "{ type: 'accepted', instance, ballot, leader });\n    return false;",
        to: "{ type: 'accepted', instance, ballot, leader });\n    return true;",
      },
    ],
  },
  {
    name: 'a promise is told before it is durable',
    changes: [
      {
        file: 'paxos/core/acceptor.js',
        from: "state.write({ type: 'promise', ballot }, { type: 'promised', ballot, candidate });",
        to: `state.write({ type: 'promise', ballot }, { type: 'promised', ballot, candidate });
    if (candidate !== state.config.self) onPromised(state, candidate, ballot);`,
      },
    ],
  },
  {
    name: 'values below the promise are accepted',
    changes: [
      {
        file: 'paxos/core/acceptor.js',
        from: 'follow(state, leader, ballot, chosen_through);\n        return;\n    }\n    if (ballot < state.promised) {',
        to: '}\n    if (false) {',
      },
      NO_ASSERTION,
    ],
  },
  {
    name: 'a promise does not tell what was accepted',
    changes: [
      {
        file: 'paxos/core/acceptor.js',
        from: 'const entries = acceptedAboveChosen(state);\n    state.send(',
        to: 'const entries = [];\n    state.send(',
      },
    ],
  },
  {
    name: 'the value of the lowest ballot is proposed again',
    changes: [{ file: 'paxos/core/leader.js', from: 'entry.ballot > rival.ballot', to: 'entry.ballot < rival.ballot' }],
  },
  {
    name: 'accepted values are replaced by no-operations',
    changes: [
      {
        file: 'paxos/core/leader.js',
        from: 'leader.recovered.get(instance)?.value ?? noopValue(leader.ballot)',
        to: 'noopValue(leader.ballot)',
      },
    ],
  },
  {
    name: 'less than a majority is enough',
    changes: [
      {
        file: 'paxos/core/members.js',
        from: '2 * count > voters.length',
        to: '2 * count >= voters.length - 1 && count > 0',
      },
    ],
  },
  {
    name: 'a ballot is used again after a restart',
    changes: [{ file: 'paxos/core/state.js', from: 'this.promised = restored.promised;', to: 'this.promised = 0;' }],
  },
  {
    name: 'a grant binds nobody',
    changes: [
      {
        file: 'paxos/core/acceptor.js',
        from: 'return state.now_ms <= state.grant.until_ms && state.grant.to !== candidate;',
        to: 'return false;',
      },
    ],
  },
  {
    name: 'a restart forgets the grants',
    changes: [{ file: 'paxos/core/state.js', from: 'until_ms: now_ms + wait_ms', to: 'until_ms: now_ms - 1' }],
  },
  {
    name: 'the lease counts from the answer',
    changes: [
      {
        file: 'paxos/core/leader.js',
        from: 'noteGrant(role, from, message.sent_at_ms);',
        to: 'noteGrant(role, from, state.now_ms);',
      },
    ],
  },
  {
    name: 'a lease outlives a jump of the clock',
    changes: [{ file: 'paxos/core/leader.js', from: 'leader.granted.clear();', to: '' }],
  },
  {
    name: 'answers from before a jump of the clock count',
    changes: [{ file: 'paxos/core/state.js', from: 'if (sent_at_ms <= leader.void_until_ms)', to: 'if (false)' }],
  },
  {
    name: 'a new master serves before it applied what came before it',
    changes: [{ file: 'paxos/core/group.js', from: 'this.applied_through >= state.role.barrier', to: 'true' }],
  },
  {
    name: 'a claim covers values of any ballot',
    changes: [
      {
        file: 'paxos/core/learner.js',
        from: 'instance <= state.claim.through && entry.ballot >= state.claim.ballot',
        to: 'instance <= state.claim.through',
      },
    ],
  },
  {
    name: 'values are applied before the own disk has them',
    changes: [{ file: 'paxos/core/learner.js', from: 'if (!entry.durable)\n            return;', to: '' }],
  },
  {
    name: 'a proposer takes any value at its instance for its own',
    changes: [{ file: 'paxos/core/learner.js', from: 'pending.origin === originOf(entry.value)', to: 'true' }],
  },
  {
    name: 'chosen instances are skipped',
    changes: [
      {
        file: 'paxos/core/learner.js',
        from: 'if (!entry.chosen && !claimed)\n            break;',
        to: 'if (!entry.chosen && !claimed && !state.entries.get(instance + 1)?.chosen)\n            break;',
      },
    ],
  },
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

const COMPILED = fileURLToPath(new URL('../..', import.meta.url));
const SOURCE = join('src', 'ts');
/** What the simulator imports of the program, and the simulator. */
const PARTS = ['paxos', 'wal', 'store', 'protocol'].map((folder) => join(SOURCE, folder));

/** Writes simulator and program, with the mutant's changes, into `folder`. Throws if a text to change is not found once. */
export function buildMutant(mutant: Mutant, folder: string): void {
  for (const part of [...PARTS, join('test', 'sim'), join('test', 'wal')]) {
    mkdirSync(join(folder, part), { recursive: true });
    cpSync(join(COMPILED, part), join(folder, part), { recursive: true });
  }
  cpSync(join(COMPILED, SOURCE, 'errors.js'), join(folder, SOURCE, 'errors.js'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}\n');
  for (const { file, from, to } of mutant.changes) {
    const path = join(folder, SOURCE, file);
    const parts = readFileSync(path, 'utf8').split(from);
    if (parts.length !== 2) throw new Error(`${mutant.name}: "${from}" is ${parts.length - 1} times in ${file}`);
    writeFileSync(path, parts.join(to));
  }
}
