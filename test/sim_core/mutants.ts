/**
 * Mistakes that an implementation of the protocol could make, as changes to the compiled core: a simulator that does not
 * find them proves nothing about the core that it passes.
 */
import { CORE_MUTANTS } from '../support/core_mutants.js';
import type { Mutant } from '../support/mutants.js';

export const MUTANTS: readonly Mutant[] = [
  ...CORE_MUTANTS,
  {
    name: 'a leader that hands over keeps its lease',
    changes: [{ file: 'paxos/core/transfer.js', from: 'stepDown(state);', to: '' }],
  },
  {
    name: 'a request to take over is not checked against the ballot',
    changes: [
      {
        file: 'paxos/core/transfer.js',
        from: "if (ballot !== state.highest_seen || state.role.type !== 'follower')",
        to: 'if (false)',
      },
      { file: 'paxos/core/acceptor.js', from: 'if (state.grant.ballot !== ballot)', to: 'if (false)' },
    ],
  },
  {
    name: 'new members govern at once',
    changes: [{ file: 'paxos/core/members.js', from: 'from: instance + MEMBERS_DELAY', to: 'from: instance + 1' }],
  },
  {
    name: 'phase 1 counts only the newest members',
    changes: [
      {
        file: 'paxos/core/members.js',
        from: 'this.#list.slice(this.#firstAbove(through)).every(',
        to: 'this.#list.slice(-1).every(',
      },
      {
        file: 'paxos/core/leader.js',
        from: '&& members.isQuorum(instance, (id) => leader.promised_by.has(id))',
        to: '',
      },
    ],
  },
  {
    name: 'acceptances of learners count',
    changes: [
      {
        file: 'paxos/core/leader.js',
        from: '!state.members.isQuorum(instance, (id) => acceptors.has(id))',
        to: '2 * acceptors.size <= state.members.voters.length',
      },
    ],
  },
  {
    name: 'acceptances of the newest members count for all instances',
    changes: [
      {
        file: 'paxos/core/leader.js',
        from: '!state.members.isQuorum(instance, (id) => acceptors.has(id))',
        to: '!state.members.isQuorum(Infinity, (id) => acceptors.has(id))',
      },
    ],
  },
  {
    name: 'a leader does not ask new members for their promises',
    changes: [
      {
        file: 'paxos/core/members_change.js',
        from: 'if (!members.isQuorumOfAll(above, (id) => role.promised_by.has(id)))',
        to: 'if (false)',
      },
      {
        file: 'paxos/core/leader.js',
        from: '&& members.isQuorum(instance, (id) => leader.promised_by.has(id))',
        to: '',
      },
    ],
  },
  {
    name: 'chains are not compared',
    changes: [{ file: 'paxos/core/divergence.js', from: 'if (own === theirs.chain) {', to: 'if (true) {' }],
  },
  {
    name: 'a snapshot leaves older values behind',
    changes: [
      {
        file: 'paxos/core/snapshot.js',
        from: 'if (instance <= through)\n            state.dropEntry(instance);',
        to: '',
      },
    ],
  },
  {
    name: 'damaged values are skipped',
    changes: [
      {
        file: 'paxos/core/state.js',
        from: 'this.applied_through = restored.chosen_through;',
        to: 'this.chosen_through = this.applied_through = restored.known_through;',
      },
    ],
  },
  {
    name: 'a withheld vote is given',
    changes: [{ file: 'paxos/core/state.js', from: '!this.voting || this.repairing', to: 'this.repairing' }],
  },
  {
    name: 'a replica votes with damaged values',
    changes: [{ file: 'paxos/core/state.js', from: '!this.voting || this.repairing', to: '!this.voting' }],
  },
];
