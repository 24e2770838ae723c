/**
 * Mistakes that an implementation of the protocol could make, as changes to the compiled core: a simulator that does not
 * find them proves nothing about the core that it passes.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A change of one compiled file of src/ts/paxos/core; each text must be there exactly once. */
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
  file: 'acceptor.js',
  from: "assert(ballot >= state.promised, 'no ballot below the promise is accepted');",
  to: '',
};

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'an acceptance is told before it is durable',
    changes: [
      {
        file: 'acceptor.js',
        from: "{ type: 'accepted', instance, ballot, leader });\n    return false;",
        to: "{ type: 'accepted', instance, ballot, leader });\n    return true;",
      },
    ],
  },
  {
    name: 'a promise is told before it is durable',
    changes: [
      {
        file: 'acceptor.js',
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
        file: 'acceptor.js',
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
        file: 'acceptor.js',
        from: 'const entries = acceptedAboveChosen(state);\n    state.send(',
        to: 'const entries = [];\n    state.send(',
      },
    ],
  },
  {
    name: 'the value of the lowest ballot is proposed again',
    changes: [{ file: 'leader.js', from: 'entry.ballot > rival.ballot', to: 'entry.ballot < rival.ballot' }],
  },
  {
    name: 'accepted values are replaced by no-operations',
    changes: [
      {
        file: 'leader.js',
        from: 'leader.recovered.get(instance)?.value ?? noopValue(leader.ballot)',
        to: 'noopValue(leader.ballot)',
      },
    ],
  },
  {
    name: 'less than a majority is enough',
    changes: [
      {
        file: 'members.js',
        from: '2 * count > voters.length',
        to: '2 * count >= voters.length - 1 && count > 0',
      },
    ],
  },
  {
    name: 'a ballot is used again after a restart',
    changes: [{ file: 'state.js', from: 'this.promised = restored.promised;', to: 'this.promised = 0;' }],
  },
  {
    name: 'a grant binds nobody',
    changes: [
      {
        file: 'acceptor.js',
        from: 'return state.now_ms <= state.grant.until_ms && state.grant.to !== candidate;',
        to: 'return false;',
      },
    ],
  },
  {
    name: 'a restart forgets the grants',
    changes: [{ file: 'state.js', from: 'until_ms: now_ms + wait_ms', to: 'until_ms: now_ms - 1' }],
  },
  {
    name: 'the lease counts from the answer',
    changes: [
      {
        file: 'leader.js',
        from: 'noteGrant(role, from, message.sent_at_ms);',
        to: 'noteGrant(role, from, state.now_ms);',
      },
    ],
  },
  {
    name: 'a lease outlives a jump of the clock',
    changes: [{ file: 'leader.js', from: 'leader.granted.clear();', to: '' }],
  },
  {
    name: 'answers from before a jump of the clock count',
    changes: [{ file: 'state.js', from: 'if (sent_at_ms <= leader.void_until_ms)', to: 'if (false)' }],
  },
  {
    name: 'a new master serves before it applied what came before it',
    changes: [{ file: 'group.js', from: 'this.applied_through >= state.role.barrier', to: 'true' }],
  },
  {
    name: 'a claim covers values of any ballot',
    changes: [
      {
        file: 'learner.js',
        from: 'instance <= state.claim.through && entry.ballot >= state.claim.ballot',
        to: 'instance <= state.claim.through',
      },
    ],
  },
  {
    name: 'values are applied before the own disk has them',
    changes: [{ file: 'learner.js', from: 'if (!entry.durable)\n            return;', to: '' }],
  },
  {
    name: 'a proposer takes any value at its instance for its own',
    changes: [{ file: 'learner.js', from: 'pending.origin === originOf(entry.value)', to: 'true' }],
  },
  {
    name: 'chosen instances are skipped',
    changes: [
      {
        file: 'learner.js',
        from: 'if (!entry.chosen && !claimed)\n            break;',
        to: 'if (!entry.chosen && !claimed && !state.entries.get(instance + 1)?.chosen)\n            break;',
      },
    ],
  },
  {
    name: 'a leader that hands over keeps its lease',
    changes: [{ file: 'transfer.js', from: 'stepDown(state);', to: '' }],
  },
  {
    name: 'a request to take over is not checked against the ballot',
    changes: [
      {
        file: 'transfer.js',
        from: "if (ballot !== state.highest_seen || state.role.type !== 'follower')",
        to: 'if (false)',
      },
      { file: 'acceptor.js', from: 'if (state.grant.ballot !== ballot)', to: 'if (false)' },
    ],
  },
  {
    name: 'new members govern at once',
    changes: [{ file: 'members.js', from: 'from: instance + MEMBERS_DELAY', to: 'from: instance + 1' }],
  },
  {
    name: 'phase 1 counts only the newest members',
    changes: [
      {
        file: 'members.js',
        from: 'this.#list.slice(this.#firstAbove(through)).every(',
        to: 'this.#list.slice(-1).every(',
      },
      { file: 'leader.js', from: '&& members.isQuorum(instance, (id) => leader.promised_by.has(id))', to: '' },
    ],
  },
  {
    name: 'acceptances of learners count',
    changes: [
      {
        file: 'leader.js',
        from: '!state.members.isQuorum(instance, (id) => acceptors.has(id))',
        to: '2 * acceptors.size <= state.members.voters.length',
      },
    ],
  },
  {
    name: 'acceptances of the newest members count for all instances',
    changes: [
      {
        file: 'leader.js',
        from: '!state.members.isQuorum(instance, (id) => acceptors.has(id))',
        to: '!state.members.isQuorum(Infinity, (id) => acceptors.has(id))',
      },
    ],
  },
  {
    name: 'a leader does not ask new members for their promises',
    changes: [
      {
        file: 'members_change.js',
        from: 'if (!members.isQuorumOfAll(above, (id) => role.promised_by.has(id)))',
        to: 'if (false)',
      },
      { file: 'leader.js', from: '&& members.isQuorum(instance, (id) => leader.promised_by.has(id))', to: '' },
    ],
  },
  {
    name: 'chains are not compared',
    changes: [{ file: 'divergence.js', from: 'if (own === theirs.chain) {', to: 'if (true) {' }],
  },
  {
    name: 'a snapshot leaves older values behind',
    changes: [
      { file: 'snapshot.js', from: 'if (instance <= through)\n            state.dropEntry(instance);', to: '' },
    ],
  },
  {
    name: 'damaged values are skipped',
    changes: [
      {
        file: 'state.js',
        from: 'this.applied_through = restored.chosen_through;',
        to: 'this.chosen_through = this.applied_through = restored.known_through;',
      },
    ],
  },
  {
    name: 'a withheld vote is given',
    changes: [{ file: 'state.js', from: '!this.voting || this.repairing', to: 'this.repairing' }],
  },
  {
    name: 'a replica votes with damaged values',
    changes: [{ file: 'state.js', from: '!this.voting || this.repairing', to: '!this.voting' }],
  },
];

const COMPILED = fileURLToPath(new URL('../..', import.meta.url));
const CORE = join('src', 'ts', 'paxos', 'core');

/** Writes simulator and core, with the mutant's changes, into `folder`. Throws if a text to change is not found once. */
export function buildMutant(mutant: Mutant, folder: string): void {
  for (const part of [CORE, join('test', 'sim_core')]) {
    mkdirSync(join(folder, part), { recursive: true });
    cpSync(join(COMPILED, part), join(folder, part), { recursive: true });
  }
  for (const file of [join('src', 'ts', 'errors.js'), join('test', 'sim', 'random.js')]) {
    cpSync(join(COMPILED, file), join(folder, file));
  }
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}\n');
  for (const { file, from, to } of mutant.changes) {
    const path = join(folder, CORE, file);
    const parts = readFileSync(path, 'utf8').split(from);
    if (parts.length !== 2) throw new Error(`${mutant.name}: "${from}" is ${parts.length - 1} times in ${file}`);
    writeFileSync(path, parts.join(to));
  }
}
