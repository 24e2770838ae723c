/** Says in the log who leads which Paxos groups, whenever that changes. */
import type { Mastership, Replica, ReplicatedLog } from '../paxos/replicated_log.js';

/** See the head of this file. Who owns it calls `check` from time to time. */
export class MasterWatch {
  readonly #log: Pick<ReplicatedLog, 'groups' | 'mastership' | 'replicas'>;
  readonly #say: (line: string) => void;
  readonly #known: string[];

  constructor(log: Pick<ReplicatedLog, 'groups' | 'mastership' | 'replicas'>, say: (line: string) => void) {
    this.#log = log;
    this.#say = say;
    this.#known = new Array<string>(log.groups).fill('no master');
  }

  /** Compares with the last call; groups that changed alike share a line. */
  check(): void {
    const changed = new Map<string, number[]>();
    for (let group = 0; group < this.#log.groups; group += 1) {
      const state = describe(this.#log.mastership(group), this.#log.replicas);
      if (this.#known[group] === state) continue;
      this.#known[group] = state;
      const groups = changed.get(state);
      if (groups === undefined) changed.set(state, [group]);
      else groups.push(group);
    }
    for (const [state, groups] of changed) this.#say(`MASTERSTAT: INFO: ${groupList(groups)}: ${state}`);
  }

  /** Groups without a known master at this moment. */
  masterless(): number[] {
    const masterless: number[] = [];
    for (let group = 0; group < this.#log.groups; group += 1) {
      if (this.#log.mastership(group).role === 'unknown') masterless.push(group);
    }
    return masterless;
  }
}

/** Ascending groups as text, e.g. `groups 0-3, 7`. */
export function groupList(groups: readonly number[]): string {
  const spans: string[] = [];
  let from = 0;
  for (let i = 1; i <= groups.length; i += 1) {
    const last = groups[i - 1] ?? 0;
    if (groups[i] === last + 1) continue;
    const first = groups[from] ?? last;
    spans.push(first === last ? `${first}` : `${first}-${last}`);
    from = i;
  }
  return `${groups.length === 1 ? 'group' : 'groups'} ${spans.join(', ')}`;
}

function describe(mastership: Mastership, replicas: readonly Replica[]): string {
  switch (mastership.role) {
    case 'master':
      return 'this replica is master';
    case 'unknown':
      return 'no master';
    case 'follower': {
      const master = replicas.find((replica) => replica.id === mastership.master);
      const address = master === undefined ? '' : ` (paxos ${master.host}:${master.paxos_port})`;
      return `replica ${mastership.master}${address} is master`;
    }
  }
}
