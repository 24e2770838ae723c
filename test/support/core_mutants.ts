/** Mistakes in the protocol core that each simulator has to find. */
import type { Change, Mutant } from './mutants.js';

const NO_ASSERTION: Change = {
  file: 'paxos/core/acceptor.js',
  from: "assert(ballot >= state.promised, 'no ballot below the promise is accepted');",
  to: '',
};

export const CORE_MUTANTS: readonly Mutant[] = [
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
];
