/** What happens in a script, as people speak of it. */
import { replicaOf } from '../../../src/ts/paxos/core/ballot.js';
import type { Configuration } from '../../../src/ts/paxos/core/members.js';
import type { AcceptedEntry, LogWrite, MembersChange, Message } from '../../../src/ts/paxos/core/types.js';
import { commandsOf, rosterOf } from '../../../src/ts/paxos/core/value.js';

/** Learners in brackets. */
export function membersText({ members, from }: Configuration): string {
  const names = members.map(({ id, role }) => (role === 'voter' ? `${id}` : `(${id})`));
  return `${names.join(' ')}, from ${from} on`;
}

export function changeText(change: MembersChange): string {
  switch (change.type) {
    case 'add_learner':
      return `add learner ${change.member.id}`;
    case 'replace':
      return `replace ${change.id} by ${change.by.id}`;
    default:
      return `${change.type} ${change.id}`;
  }
}

/** Round and replica, as people speak of ballots. */
export function ballotText(ballot: number & { readonly __brand: 'Ballot' }): string {
  return `${Math.floor(ballot / 65_536)}.${replicaOf(ballot)}`;
}

export function commandTexts(value: Uint8Array): string[] {
  return commandsOf(value).map(({ offset, length }) => Buffer.from(value.subarray(offset, offset + length)).toString());
}

export function valueText(value: Uint8Array): string {
  const roster = rosterOf(value);
  if (roster !== null) return `members ${roster.members.map(({ id }) => id).join(' ')}`;
  const texts = commandTexts(value);
  return texts.length === 0 ? 'no-op' : `"${texts.join('", "')}"`;
}

export function writeText(write: LogWrite): string {
  if (write.type === 'promise') return `promise ${ballotText(write.ballot)}`;
  if (write.type === 'longest_grant') return `longest grant ${write.lease_ms} ms`;
  return `${write.instance} at ${ballotText(write.ballot)} ${valueText(write.value)}`;
}

export function messageText(message: Message): string {
  switch (message.type) {
    case 'pre_vote':
      return `pre_vote, chosen through ${message.chosen_through}`;
    case 'pre_vote_reply':
      return `pre_vote_reply ${message.granted ? 'granted' : 'refused'}`;
    case 'prepare':
    case 'release':
    case 'take_over':
      return `${message.type} ${ballotText(message.ballot)}`;
    case 'promise': {
      const held = message.entries.map((entry) => `${entry.instance} at ${ballotText(entry.ballot)}`);
      const accepted = held.length === 0 ? 'nothing' : held.join(', ');
      return `promise ${ballotText(message.ballot)}, chosen through ${message.chosen_through}, accepted ${accepted}`;
    }
    case 'accept':
      return `accept ${message.instance} at ${ballotText(message.ballot)} ${valueText(message.value)}`;
    case 'accepted':
      return `accepted ${rangesText(message.instances)} at ${ballotText(message.ballot)}`;
    case 'reject':
      return `reject ${ballotText(message.ballot)}, promised ${ballotText(message.promised)}`;
    case 'fetch':
      return `fetch ${message.from} to ${message.through}`;
    case 'learn':
      return `learn ${learnedText(message.entries)}`;
    case 'removed':
      return 'removed';
    case 'diverged':
      return `diverged at ${message.instance}`;
    case 'heartbeat':
    case 'heartbeat_reply':
      return message.type;
  }
}

/** 1, 2, 3, 7 as "1 to 3, 7". */
function rangesText(instances: readonly number[]): string {
  const texts: string[] = [];
  let first: number | null = null;
  instances.forEach((instance, index) => {
    first ??= instance;
    if (instances[index + 1] === instance + 1) return;
    texts.push(first === instance ? `${instance}` : `${first} to ${instance}`);
    first = null;
  });
  return texts.join(', ');
}

/** The values, no-operations in a row as one. */
function learnedText(entries: readonly AcceptedEntry[]): string {
  const texts: string[] = [];
  let first = 0;
  entries.forEach(({ instance, value }, index) => {
    const next = entries[index + 1];
    if (first === 0) first = instance;
    if (next !== undefined && isNoop(value) && isNoop(next.value)) return;
    texts.push(`${first === instance ? '' : `${first} to `}${instance} ${valueText(value)}`);
    first = 0;
  });
  return texts.join(', ');
}

/** Instances at which the message carries, or tells of, a no-operation that leads to new members. */
export function isAbout(message: Message, noops: ReadonlySet<number>): boolean {
  if (message.type === 'accept') return noops.has(message.instance);
  return message.type === 'accepted' && message.instances.every((instance) => noops.has(instance));
}

export function isNoop(value: Uint8Array): boolean {
  return rosterOf(value) === null && commandsOf(value).length === 0;
}
